//! From sliders that are dragged, typed or nudged to pictures and undo steps.

use std::time::Duration;

use super::StudioApp;
use super::history::Change;
use super::sliders::Touch;
use crate::editing::Recipe;
use crate::engine::Quality;

/// Seconds after the last arrow key until the picture is refined.
const SETTLE: f64 = 0.25;

/// A slider that is held down.
pub(super) struct Held {
    attribute: String,
    /// The recipe before.
    from: Recipe,
    moved: bool,
}

impl StudioApp {
    /// Turns what happened to the sliders into requests and undo steps. `before` is the recipe at the start of the frame.
    pub(super) fn follow(&mut self, ctx: &egui::Context, before: Recipe, touch: Touch) {
        let now = ctx.input(|input| input.time);
        let changed = self.recipe != before;
        if changed {
            self.shows_hint = false;
        }
        match touch {
            Touch::Held { attribute, moved } => {
                let held = self.held.get_or_insert(Held { attribute, from: before, moved: false });
                held.moved |= moved;
                if changed {
                    self.render(Quality::Preview);
                }
            }
            other => {
                if let Some(from) = self.commit_held(now) {
                    if self.recipe != from || changed {
                        self.render(Quality::Final);
                    }
                } else if let Touch::Changed(change) = other
                    && changed
                {
                    let nudged = matches!(change, Change::Nudge(_));
                    self.history.commit(&before, &self.recipe, change, now);
                    // An arrow key that repeats would drop one final decode after the other and show none.
                    self.render(if nudged { Quality::Preview } else { Quality::Final });
                    self.settle_at = nudged.then_some(now + SETTLE);
                }
            }
        }
        if let Some(time) = self.settle_at {
            if now >= time {
                self.render(Quality::Final);
            } else {
                ctx.request_repaint_after(Duration::from_secs_f64(time - now));
            }
        }
    }

    /// Makes what a held slider has done an undo step; returns the recipe before.
    fn commit_held(&mut self, now: f64) -> Option<Recipe> {
        let Held { attribute, from, moved } = self.held.take()?;
        let change = if moved { Change::Whole } else { Change::Nudge(attribute) };
        self.history.commit(&from, &self.recipe, change, now);
        Some(from)
    }

    /// Another photo takes the place of the one whose slider may be held.
    pub(super) fn let_go(&mut self, ctx: &egui::Context) {
        let now = ctx.input(|input| input.time);
        self.drags_on |= self.commit_held(now).is_some();
    }

    /// Whether a slider still follows a drag that began on another photo, which is not for this one.
    pub(super) fn drags_on(&mut self, ctx: &egui::Context) -> bool {
        let (down, released) = ctx.input(|input| (input.pointer.any_down(), input.pointer.any_released()));
        let drags_on = self.drags_on && (down || released);
        self.drags_on = drags_on && !released;
        drags_on
    }
}
