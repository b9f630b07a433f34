#!/usr/bin/env bash
# Drives the built window with real mouse and keyboard events on a screen of its own, and checks what comes of it.
#
#   cargo test --no-run && tests/desktop.sh target/debug/pdae-studio [FOLDER FOR SCREENSHOTS] [WIDTHxHEIGHT]
#
# Needs Xvfb, openbox, xdotool, ImageMagick and a Vulkan driver (Debian: xvfb openbox xdotool imagemagick mesa-vulkan-drivers).
set -euo pipefail

program=$(realpath "${1:?name the built program}")
shots=$(realpath -m "${2:-$(mktemp -d)}")
size=${3:-1024x700}
width=${size%x*} height=${size#*x}
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
mkdir -p "$shots"

# Settings of its own, and no portal: paths are typed into the window.
export HOME=$work XDG_DATA_HOME=$work/data XDG_CONFIG_HOME=$work/config XDG_RUNTIME_DIR=$work DBUS_SESSION_BUS_ADDRESS=unix:path=/nonexistent
unset WAYLAND_DISPLAY
export DISPLAY=:$((RANDOM % 400 + 100))
Xvfb "$DISPLAY" -screen 0 "${width}x${height}x24" >/dev/null 2>&1 &
screen=$!
app=
trap 'kill -9 $app 2>/dev/null; kill $screen 2>/dev/null; rm -rf "$work"' EXIT
sleep 1
mkdir -p "$work/config/openbox"
printf '<openbox_config><applications><application class="*"><decor>no</decor><maximized>yes</maximized></application></applications></openbox_config>' > "$work/config/openbox/rc.xml"
openbox --config-file "$work/config/openbox/rc.xml" >/dev/null 2>&1 &

fail() { echo "FAILED: $1"; shot failed; exit 1; }
shot() { import -window root "$shots/$1.png"; }
key() { xdotool key --clearmodifiers "$@"; sleep 0.4; }
# A command by its words, through the palette.
command() { key ctrl+k; xdotool type --delay 20 "$1"; sleep 0.5; key Return; sleep 0.5; }
# Until the program has used next to no processor for two seconds.
settle() {
    local before now still=0
    before=$(ticks)
    for _ in $(seq 1 600); do
        sleep 0.5
        now=$(ticks)
        if (( now - before <= 1 )); then still=$((still + 1)); else still=0; fi
        before=$now
        (( still >= 4 )) && return
    done
    fail "it never came to rest"
}
ticks() { awk '{ print $14 + $15 }' "/proc/$app/stat"; }
# Pixels by which two screenshots differ, in a part of them.
differing() { compare -metric AE -fuzz 4% "$shots/$1.png[$3]" "$shots/$2.png[$3]" null: 2>&1 | cut -d' ' -f1 || true; }
start() {
    (cd "$root" && exec "$program" "$@") 2>"$work/errors" &
    app=$!
    for _ in $(seq 1 240); do
        xdotool search --name '^PDAE Studio$' >/dev/null 2>&1 && break
        kill -0 "$app" 2>/dev/null || fail "it ended: $(cat "$work/errors")"
        sleep 0.5
    done
    settle
}
# The middle of the canvas, between the bars and left of the sliders.
picture="$((width - 420))x$((height - 220))+30+110"

start --device cpu assets/portraits/sample.jpg
shot 1-opened

# Drag the first slider to the right with the mouse; its rail begins right of the names.
x=$((width - 174)) y=167
xdotool mousemove $x $y; sleep 0.3
xdotool mousedown 1
for i in $(seq 1 8); do xdotool mousemove $((x + 5 * i)) $y; sleep 0.1; done
shot 2-dragging
xdotool mouseup 1
xdotool mousemove $((width / 3)) $((height - 12))
settle
shot 3-edited
changed=$(differing 1-opened 3-edited "$picture")
echo "the drag changed $changed pixels"
(( ${changed%.*} > 200 )) || fail "dragging the slider changed nothing"

key ctrl+z; settle; shot 4-undone
left=$(differing 1-opened 4-undone "$picture")
echo "after undo $left differ"
(( ${left%.*} < ${changed%.*} / 4 + 50 )) || fail "undo did not bring the picture back"
key ctrl+shift+z; settle

key ctrl+2; shot 5-split
key ctrl+4; shot 6-difference
key ctrl+1

# Save through the path field.
key ctrl+s; sleep 1.5; key ctrl+a
xdotool type --delay 20 "$work/saved.png"; sleep 0.3; key Return
settle
[[ -s $work/saved.png ]] || fail "nothing was saved"
shot 7-saved

key F3; settle; shot 8-interpolation
command "play"; sleep 1; shot 9-playing; command "play"
key F4; sleep 1; shot 10-explore
key F2
command "light colours"; sleep 1; shot 11-light
command "dark colours"
command "noise to picture"; settle; shot 12-inspector
key Escape
sleep 12

awk '/VmHWM/ { printf "most memory %d MB\n", $2 / 1024 }' "/proc/$app/status"

# A crash loses nothing.
kill -9 "$app"; wait "$app" 2>/dev/null || true
start --device cpu
shot 13-restored
# The dark colours were chosen last, ten seconds before the crash.
darkness=$(convert "$shots/13-restored.png" -crop 1x1+$((width / 2))+$((height - 40)) -format '%[fx:int(255*mean)]' info:)
(( darkness < 60 )) || fail "the colours are others after a crash"
back=$(differing 3-edited 13-restored "$picture")
echo "after a crash $back differ"
(( ${back%.*} < ${changed%.*} / 4 + 2000 )) || fail "the edit is gone after a crash"

# At rest it does next to nothing, wherever the mouse rests.
rest() {
    local before now
    before=$(ticks); sleep 30; now=$(ticks)
    awk -v t=$((now - before)) -v hz="$(getconf CLK_TCK)" -v where="$1" \
        'BEGIN { printf "idle, the mouse %s: %.2f %% of a core\n", where, 100 * t / hz / 30; exit t / hz / 30 > 0.01 }' || fail "it is busy at rest"
}
rest "below the picture"
xdotool mousemove $((width / 3)) $((height / 2)); settle
rest "on the picture"
xdotool mousemove $((width - 174)) 167; settle
rest "on a slider"
echo "everything held; screenshots are in $shots"
