//! The table: lines of one figure each, as text and as JSON.

use serde::Serialize;

/// What a figure should be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    pub fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(goal) => value >= goal,
            Self::AtMost(goal) => value <= goal,
        }
    }
}

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// What was done, e.g. `reconstruction, 100 + 100 steps`.
    pub what: String,
    /// What was measured, e.g. `SSIM`.
    pub metric: String,
    /// `None` where it cannot be measured; the note says why.
    pub value: Option<f64>,
    pub goal: Option<Goal>,
    /// Images that it is a mean over.
    pub images: usize,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
}

impl Line {
    pub fn new(what: impl Into<String>, metric: &str, value: f64, images: usize) -> Self {
        Self { what: what.into(), metric: metric.into(), value: Some(value), goal: None, images, note: String::new() }
    }

    /// A figure that cannot be had.
    pub fn missing(what: impl Into<String>, metric: &str, reason: &str) -> Self {
        Self { what: what.into(), metric: metric.into(), value: None, goal: None, images: 0, note: reason.into() }
    }

    #[must_use]
    pub fn with_goal(self, goal: Goal) -> Self {
        Self { goal: Some(goal), ..self }
    }

    #[must_use]
    pub fn with_note(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }

    fn cells(&self) -> [String; 6] {
        let goal = match self.goal {
            Some(Goal::AtLeast(goal)) => format!(">= {}", number(goal)),
            Some(Goal::AtMost(goal)) => format!("<= {}", number(goal)),
            None => String::new(),
        };
        let met = match (self.value, self.goal) {
            (Some(value), Some(goal)) => if goal.is_met(value) { "yes" } else { "no" }.to_owned(),
            _ => String::new(),
        };
        let value = self.value.map_or_else(|| "-".to_owned(), number);
        let images = if self.images > 0 { self.images.to_string() } else { String::new() };
        let metric = if self.note.is_empty() { self.metric.clone() } else { format!("{} ({})", self.metric, self.note) };
        [self.what.clone(), metric, value, goal, met, images]
    }
}

/// Small numbers by their first digits, others by their place behind the point.
fn number(value: f64) -> String {
    if value != 0.0 && value.abs() < 1e-3 { format!("{value:.2e}") } else { format!("{value:.4}") }
}

/// All figures of one evaluation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Table {
    pub model: String,
    /// SHA-256 of the bundle's weights.
    pub weights: String,
    pub data: String,
    /// Images that were kept for validation.
    pub validation: usize,
    pub seed: u64,
    pub lines: Vec<Line>,
}

impl Table {
    /// A Markdown table, columns padded so that it is read as easily on a terminal.
    pub fn to_text(&self) -> String {
        let head = ["what", "figure", "value", "goal", "met", "images"].map(str::to_owned);
        let rows: Vec<[String; 6]> = std::iter::once(head).chain(self.lines.iter().map(Line::cells)).collect();
        let mut widths = [0; 6];
        for row in &rows {
            widths.iter_mut().zip(row).for_each(|(width, cell)| *width = (*width).max(cell.chars().count()));
        }
        let line = |row: &[String; 6]| {
            let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let rule = format!("|{}|\n", widths.map(|width| "-".repeat(width + 2)).join("|"));
        let title = format!("{}, on the last {} images of {}\n\n", self.model, self.validation, self.data);
        title + &line(&rows[0]) + &rule + &rows[1..].iter().map(line).collect::<String>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_readable_by_people_and_programs() {
        let lines = vec![
            Line::new("reconstruction", "MSE", 4.2e-5, 8).with_goal(Goal::AtMost(3.84e-5)),
            Line::new("probe", "AUROC", 0.91, 1000).with_goal(Goal::AtLeast(0.9)),
            Line::missing("reconstruction", "LPIPS", "no weights"),
        ];
        let table = Table { model: "M".into(), weights: "ab".into(), data: "d.tar".into(), validation: 1000, seed: 0, lines };
        let text = table.to_text();
        assert!(text.contains("4.20e-5") && text.contains("<= 3.84e-5") && text.contains("LPIPS (no weights)"), "{text}");
        let row = |name: &str| text.lines().find(|line| line.contains(name)).unwrap().to_owned();
        assert!(row("MSE").contains("| no ") && row("AUROC").contains("| yes "), "{text}");
        let lengths: std::collections::HashSet<usize> = text.lines().skip(2).map(|line| line.chars().count()).collect();
        assert_eq!(lengths.len(), 1, "every row is as long:\n{text}");
        let json = serde_json::to_value(&table).unwrap();
        assert_eq!(json["lines"][0]["goal"]["at_most"], 3.84e-5);
        assert!(json["lines"][2]["value"].is_null());
    }
}
