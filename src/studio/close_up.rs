//! Zoomed in, the part of the photo that is seen at its own resolution, over the picture that is as large as a screen.

use std::sync::Arc;
use std::time::Duration;

use egui::{Context, Rect, TextureHandle, TextureOptions, Ui, Vec2};
use image::RgbImage;

use super::picture::{Place, Shown, difference, paint, pixels, texture};
use crate::engine::close_up::{CloseUp, Part};

/// Seconds that the view must rest before the engine is asked.
const REST: f64 = 0.1;
/// Share of what is seen that is asked for beyond each of its sides, so that a small move needs nothing new.
const MARGIN: f32 = 0.1;
/// Enlarged by less than this, the whole picture is sharp enough.
const SHARP: f64 = 1.05;
/// How far from the wanted number of pixels a part may be: a little finer, and hardly coarser.
const NEAR: [f64; 2] = [0.99, 1.25];

/// Which picture of the photo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    Before,
    After,
    Difference,
}

#[derive(Default)]
pub(super) struct Closer {
    /// What is seen, as it was drawn last.
    seen: Option<Part>,
    /// Since when, in the frame clock's seconds.
    since: f64,
    /// What the engine makes at present.
    asked: Option<Part>,
    textures: Option<Textures>,
}

struct Textures {
    part: Part,
    before: TextureHandle,
    original: Arc<RgbImage>,
    edit: Option<Edit>,
}

struct Edit {
    shown: Shown,
    after: TextureHandle,
    edited: Arc<RgbImage>,
    difference: Option<TextureHandle>,
}

impl Closer {
    /// Keeps in mind what of a photo of `photo` pixels is seen, of which the whole picture has `coarse` pixels; `None`: nothing that wants
    /// more of them.
    pub fn look(&mut self, ui: &Ui, place: Option<Place>, photo: Vec2, coarse: Vec2) {
        let largest = ui.input(|input| input.max_texture_side) as f64 / f64::from(1.0 + 2.0 * MARGIN);
        let seen = place.and_then(|place| part(place, photo, coarse, ui.pixels_per_point(), largest));
        if seen != self.seen {
            (self.seen, self.since) = (seen, ui.input(|input| input.time));
        }
    }

    /// What the engine is to be asked for: another part, or none; `None` while it makes the right one.
    pub fn due_request(&mut self, ctx: &Context) -> Option<Option<Part>> {
        let Some(seen) = self.seen else {
            self.textures = None;
            return self.asked.is_some().then_some(None);
        };
        let near = |asked: &Part| asked.covers(&seen) && (NEAR[0]..=NEAR[1]).contains(&(asked.scale / seen.scale));
        if self.asked.as_ref().is_some_and(near) {
            return None;
        }
        let left = self.since + REST - ctx.input(|input| input.time);
        if left > 0.0 {
            ctx.request_repaint_after(Duration::from_secs_f64(left));
            return None;
        }
        let [x, y] = seen.size.map(|length| (length as f32 * MARGIN).ceil() as u32);
        let at = [seen.at[0].saturating_sub(x), seen.at[1].saturating_sub(y)];
        // The engine cuts off what lies beyond the photo.
        let size = [0, 1].map(|k| seen.at[k] - at[k] + seen.size[k] + [x, y][k]);
        Some(Some(Part { at, size, scale: seen.scale }))
    }

    /// The engine makes none any more, and what was made of an edit is of another one.
    pub fn forget_edits(&mut self) {
        self.asked = None;
        if let Some(textures) = &mut self.textures {
            textures.edit = None;
        }
    }

    pub fn asked(&mut self, part: Option<Part>) {
        self.asked = part;
    }

    /// Takes what the engine made, unless another part is wanted by now. Edits of a generation before `oldest` are not for the photo.
    pub fn take(&mut self, ctx: &Context, close_up: CloseUp, oldest: u64) {
        let CloseUp { part, before, edit } = close_up;
        // What was asked for before another model came is made all the same; if it is not wanted any more, the engine is told so next.
        let asked = *self.asked.get_or_insert(part);
        // The engine cuts off what lies beyond the photo.
        if !(asked.covers(&part) && asked.at == part.at && asked.scale == part.scale) {
            return;
        }
        let load = |name: &str, image: &RgbImage| texture(ctx, name, image, TextureOptions::LINEAR);
        let same = |textures: &Textures| textures.part == part && Arc::ptr_eq(&textures.original, &before);
        if !self.textures.as_ref().is_some_and(same) {
            let texture = load("before, closer", &before);
            self.textures = Some(Textures { part, before: texture, original: before, edit: None });
        }
        let (Some(textures), Some((generation, quality, edited))) = (&mut self.textures, edit) else { return };
        if generation < oldest {
            return;
        }
        let shown = Shown { generation, quality };
        match &mut textures.edit {
            Some(edit) => {
                edit.after.set(pixels(&edited), TextureOptions::LINEAR);
                (edit.shown, edit.edited, edit.difference) = (shown, edited, None);
            }
            none => *none = Some(Edit { shown, after: load("after, closer", &edited), edited, difference: None }),
        }
    }

    /// The part that is at hand, if it is so with what is on the screen.
    pub fn part(&self, shown: Option<Shown>) -> Option<Part> {
        let textures = self.textures.as_ref()?;
        (textures.edit.as_ref().map(|edit| edit.shown) >= shown).then_some(textures.part)
    }

    /// Draws what there is into that part of a photo at `rect` which lies in `cell`; nothing that is older than what is on the screen.
    pub fn paint(&mut self, ui: &Ui, cell: &Rect, rect: Rect, photo: Vec2, look: Look, shown: Option<Shown>) {
        if self.seen.is_none() || (look != Look::Before && self.part(shown).is_none()) {
            return;
        }
        let Some(Textures { part, before, original, edit }) = &mut self.textures else { return };
        let texture = match (look, edit) {
            (Look::After, Some(edit)) => &edit.after,
            (Look::Difference, Some(edit)) => {
                let load = || texture(ui.ctx(), "difference, closer", &difference(original, &edit.edited), TextureOptions::LINEAR);
                edit.difference.get_or_insert_with(load)
            }
            // Unedited, both are the same.
            (Look::Before | Look::After, _) => before,
            (Look::Difference, None) => return,
        };
        let [at, size] = [part.at, part.size].map(|[x, y]| Vec2::new(x as f32, y as f32) / photo * rect.size());
        paint(ui, cell, Rect::from_min_size(rect.min + at, size), texture, "");
    }
}

/// What of a photo is seen, if the whole picture is too coarse for it. `largest`: pixels that a side may have.
fn part(Place { whole, seen }: Place, photo: Vec2, coarse: Vec2, pixels_per_point: f32, largest: f64) -> Option<Part> {
    let scale = f64::from(whole.width() * pixels_per_point) / f64::from(photo.x);
    let coarse = f64::from(coarse.x) / f64::from(photo.x);
    if !scale.is_finite() || coarse >= 1.0 || scale <= coarse * SHARP {
        return None;
    }
    let visible = whole.intersect(seen);
    if !visible.is_positive() {
        return None;
    }
    let [from, to] = [visible.min, visible.max].map(|corner| (corner - whole.min) / whole.size() * photo);
    let at = [from.x, from.y].map(|v| v.floor().max(0.0) as u32);
    let end = [(to.x, photo.x), (to.y, photo.y)].map(|(v, most)| v.ceil().min(most) as u32);
    let size = [0, 1].map(|k| end[k].saturating_sub(at[k]));
    let scale = size.iter().fold(scale.min(1.0), |scale, length| scale.min(largest / f64::from(*length)));
    size.iter().all(|length| *length > 0).then_some(Part { at, size, scale })
}

#[cfg(test)]
mod tests {
    use egui::{pos2, vec2};

    use super::*;

    fn place(zoom: f32) -> Place {
        let seen = Rect::from_min_size(pos2(100.0, 50.0), vec2(800.0, 600.0));
        Place { whole: Rect::from_center_size(seen.center(), seen.size() * zoom), seen }
    }

    #[test]
    fn what_is_seen_is_asked_for_where_the_picture_is_too_coarse() {
        let (photo, coarse) = (vec2(4000.0, 3000.0), vec2(1400.0, 1050.0));
        assert_eq!(part(place(1.0), photo, coarse, 1.0, 8192.0), None, "all of it, smaller than the picture");
        assert_eq!(part(place(1.7), photo, coarse, 1.0, 8192.0), None);
        assert_eq!(part(place(4.0), photo, coarse, 1.0, 8192.0), Some(Part { at: [1500, 1125], size: [1000, 750], scale: 0.8 }));
        assert_eq!(part(place(10.0), photo, coarse, 1.0, 8192.0).map(|part| part.scale), Some(1.0), "there are no more pixels");
        assert_eq!(part(place(4.0), coarse, coarse, 1.0, 8192.0), None, "a photo as small as the picture");
        assert_eq!(part(place(2.0), photo, coarse, 2.0, 8192.0).map(|part| part.scale), Some(0.8), "on a fine screen");
        let mut moved = place(4.0);
        moved.whole = moved.whole.translate(vec2(1200.0, 0.0));
        assert_eq!(part(moved, photo, coarse, 1.0, 8192.0).map(|part| part.at), Some([0, 1125]));
        moved.whole = moved.whole.translate(vec2(4000.0, 0.0));
        assert_eq!(part(moved, photo, coarse, 1.0, 8192.0), None, "out of sight");
        assert_eq!(part(place(4.0), photo, coarse, 1.0, 500.0).map(|part| part.scale), Some(0.5), "more than the card takes");
    }
}
