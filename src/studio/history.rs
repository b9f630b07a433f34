//! Undo and redo of whole recipes: one step a drag, however many values it went through.

use serde::{Deserialize, Serialize};

use crate::editing::Recipe;

/// Steps that are remembered.
const DEPTH: usize = 200;
/// Steps in either direction that come back after a restart.
const SAVED: usize = 100;
/// Seconds within which small changes of one slider (arrow keys, clicks on its rail) count as one.
const MERGE_SECONDS: f64 = 0.8;

/// How a change came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A finished drag, a typed value, a reset: always a step of its own.
    Whole,
    /// One of possibly many small steps of this slider.
    Nudge(String),
}

/// The recipes before and after the present one.
#[derive(Debug, Default)]
pub struct History {
    past: Vec<Recipe>,
    future: Vec<Recipe>,
    nudge: Option<(String, f64)>,
}

/// The steps around the present edit, as they are written to the settings: each side farthest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Steps {
    past: Vec<Recipe>,
    future: Vec<Recipe>,
}

impl From<Steps> for History {
    fn from(Steps { past, future }: Steps) -> Self {
        Self { past, future, nudge: None }
    }
}

impl History {
    /// The nearest steps in either direction, to be kept over a restart.
    pub fn nearest_steps(&self) -> Steps {
        let nearest = |steps: &[Recipe]| steps[steps.len().saturating_sub(SAVED)..].to_vec();
        Steps { past: nearest(&self.past), future: nearest(&self.future) }
    }

    /// Remembers a change from `before` to `after` at `now` (seconds, any origin).
    pub fn commit(&mut self, before: &Recipe, after: &Recipe, change: Change, now: f64) {
        let merges = match (&self.nudge, &change) {
            (Some((last, time)), Change::Nudge(slider)) => last == slider && now - time < MERGE_SECONDS,
            _ => false,
        };
        self.nudge = match change {
            Change::Nudge(slider) => Some((slider, now)),
            Change::Whole => None,
        };
        if merges {
            // A merged step that led back to where it began is none.
            if self.past.last() == Some(after) {
                self.past.pop();
                self.nudge = None;
            }
        } else if before != after {
            self.past.push(before.clone());
            if self.past.len() > DEPTH {
                self.past.remove(0);
            }
        }
        if before != after {
            self.future.clear();
        }
    }

    pub fn undo(&mut self, present: &Recipe) -> Option<Recipe> {
        self.nudge = None;
        let back = self.past.pop()?;
        self.future.push(present.clone());
        Some(back)
    }

    pub fn redo(&mut self, present: &Recipe) -> Option<Recipe> {
        self.nudge = None;
        let again = self.future.pop()?;
        self.past.push(present.clone());
        Some(again)
    }

    /// All edits in the order of their making, the present one among them, and its place.
    pub fn all<'a>(&'a self, present: &'a Recipe) -> (Vec<&'a Recipe>, usize) {
        let all = self.past.iter().chain([present]).chain(self.future.iter().rev()).collect();
        (all, self.past.len())
    }

    /// Goes to the edit at a place among [`History::all`].
    pub fn go_to(&mut self, present: &Recipe, place: usize) -> Option<Recipe> {
        let mut reached = None;
        while place != self.past.len() {
            let from = reached.take().unwrap_or_else(|| present.clone());
            reached = Some(if place < self.past.len() { self.undo(&from) } else { self.redo(&from) }?);
        }
        reached
    }

    pub fn can_undo(&self) -> bool {
        !self.past.is_empty()
    }

    pub fn can_redo(&self) -> bool {
        !self.future.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn smile(percent: f32) -> Recipe {
        let mut recipe = Recipe::default();
        recipe.set_slider("Smiling", percent);
        recipe
    }

    fn nudge() -> Change {
        Change::Nudge("Smiling".into())
    }

    #[test]
    fn undo_and_redo_walk_the_same_way() {
        let mut history = History::default();
        history.commit(&smile(0.0), &smile(40.0), Change::Whole, 0.0);
        history.commit(&smile(40.0), &smile(70.0), Change::Whole, 0.1);
        let back = history.undo(&smile(70.0)).unwrap();
        assert_eq!(back, smile(40.0));
        assert_eq!(history.undo(&back), Some(smile(0.0)));
        assert!(!history.can_undo());
        assert_eq!(history.redo(&smile(0.0)), Some(smile(40.0)));
        history.commit(&smile(40.0), &smile(10.0), Change::Whole, 0.2);
        assert!(!history.can_redo(), "a new change forgets the undone ones");
    }

    #[test]
    fn the_nearest_steps_survive_a_restart() {
        let mut history = History::default();
        for i in 0..SAVED + 30 {
            history.commit(&smile(i as f32), &smile(i as f32 + 1.0), Change::Whole, i as f64);
        }
        let present = history.undo(&smile(SAVED as f32 + 30.0)).unwrap();
        let text = serde_json::to_string(&history.nearest_steps()).unwrap();
        let mut back = History::from(serde_json::from_str::<Steps>(&text).unwrap());
        assert_eq!(back.all(&present).0.len(), SAVED + 2, "those before, the present one, the one undone");
        assert_eq!(back.redo(&present), Some(smile(SAVED as f32 + 30.0)));
        assert_eq!(back.undo(&smile(SAVED as f32 + 30.0)), Some(present.clone()));
        assert_eq!(back.undo(&present), Some(smile(SAVED as f32 + 28.0)));
    }

    #[test]
    fn any_edit_can_be_gone_to() {
        let mut history = History::default();
        for i in 0..4 {
            history.commit(&smile(i as f32), &smile(i as f32 + 1.0), Change::Whole, f64::from(i));
        }
        let reached = history.go_to(&smile(4.0), 1).unwrap();
        assert_eq!(reached, smile(1.0));
        let (all, place) = history.all(&reached);
        assert_eq!((all.len(), place), (5, 1));
        assert!(all.iter().enumerate().all(|(i, recipe)| **recipe == smile(i as f32)));
        assert_eq!(history.go_to(&reached, 4), Some(smile(4.0)));
        assert_eq!(history.go_to(&smile(4.0), 4), None);
        assert_eq!(history.go_to(&smile(4.0), 9), None, "there is no such place");
    }

    #[test]
    fn arrow_keys_in_a_row_are_one_step() {
        let mut history = History::default();
        for i in 0..10 {
            history.commit(&smile(i as f32), &smile(i as f32 + 1.0), nudge(), f64::from(i) * 0.1);
        }
        assert_eq!(history.undo(&smile(10.0)), Some(smile(0.0)));
        assert!(!history.can_undo());
    }

    #[test]
    fn a_double_click_that_ends_where_it_began_leaves_no_step() {
        let mut history = History::default();
        history.commit(&smile(0.0), &smile(35.0), nudge(), 0.0);
        history.commit(&smile(35.0), &smile(0.0), nudge(), 0.2);
        assert!(!history.can_undo());
    }
}
