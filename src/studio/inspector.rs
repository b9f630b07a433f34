//! The inspector: how the decode is steered, and what it looks like from noise to picture.

use std::sync::Arc;

use egui::{
    Align, Align2, Button, CollapsingHeader, ComboBox, DragValue, Layout, Painter, Pos2, Rect, Role, ScrollArea, Sense, Shape, Slider,
    Stroke, TextStyle, TextureHandle, TextureOptions, Ui, WidgetInfo, pos2, vec2,
};
use image::RgbImage;

use super::history::Change;
use super::interpolation::{field, row};
use super::picture;
use super::sliders::Touch;
use super::tokens::{Palette, radius, size, space};
use crate::diffusion::{Inversion, Solver};
use crate::editing::Recipe;
use crate::engine::inspection::{ChainPicture, GapPoint, InspectRequest};
use crate::engine::{PhotoId, Request};

/// Timesteps at which the gap is measured.
const GAP_POINTS: usize = 24;
/// Side of a picture of the chain in points.
const PICTURE: f32 = 112.0;
const PLOT_HEIGHT: f32 = 150.0;
const WIDTH: f32 = 640.0;

const SOLVERS: [(Solver, &str, &str); 3] = [
    (Solver::Multistep, "DPM-Solver++ 2M", "The better picture where the steps are few"),
    (
        Solver::Denoised,
        "DPM-Solver++ 2M, denoised end",
        "Without the last of the noise: less grain from fresh noise, less detail of a photo",
    ),
    (Solver::Ddim, "DDIM, as published", "The published sampler; needs more steps for the same picture"),
];
const INVERSIONS: [(Inversion, &str, &str); 2] = [
    (Inversion::Implicit, "Closer to the photo", "The decode's own steps, backwards"),
    (Inversion::Explicit, "DDIM, as published", "The published inversion"),
];

/// What the last look showed.
#[derive(Default)]
pub struct Inspector {
    pub is_open: bool,
    generation: u64,
    /// The recipe that was looked at.
    looked_at: Option<Recipe>,
    /// The last look ended before it had shown everything.
    broke_off: bool,
    noise: Option<TextureHandle>,
    chain: Vec<(usize, TextureHandle, TextureHandle)>,
    gap: Vec<GapPoint>,
}

/// Draws the settings of the decode, folded away.
pub fn show_settings(ui: &mut Ui, recipe: &mut Recipe, inspector: &mut Inspector) -> Touch {
    let before = recipe.clone();
    let mut held = false;
    CollapsingHeader::new(egui::RichText::new("Advanced").strong()).default_open(false).show_unindented(ui, |ui| {
        ui.checkbox(&mut recipe.keep_background, "Keep the background")
            .on_hover_text("Only the person changes. Without it, hats and hair can reach beyond the head");
        let mut slider = |ui: &mut Ui, name: &str, tooltip: &str, value: &mut f64, range, suffix: &str| {
            row(ui, name, |ui| {
                ui.spacing_mut().slider_width = (ui.available_width() - 72.0).max(40.0);
                let decimals = usize::from(suffix.is_empty());
                let response = ui.add(Slider::new(value, range).suffix(suffix).fixed_decimals(decimals));
                response.widget_info(|| WidgetInfo::slider(ui.is_enabled(), 0.0, name));
                held |= response.is_pointer_button_down_on();
                response.on_hover_text(tooltip);
            });
        };
        slider(ui, "Guidance", "Factor on the learned mean shift; 1 is as trained", &mut recipe.guidance, 0.0..=3.0, "");
        let mut stop = recipe.stop_percent * 100.0;
        slider(ui, "Free end", "Share of the decode, at its end, that is left to the plain DPM", &mut stop, 0.0..=100.0, " %");
        recipe.stop_percent = (stop / 100.0).clamp(0.0, 1.0);
        let mut fresh = recipe.fresh_noise * 100.0;
        slider(ui, "Fresh noise", "Share of other noise in the stochastic latent; 0 is the photo's own", &mut fresh, 0.0..=100.0, " %");
        recipe.fresh_noise = (fresh / 100.0).clamp(0.0, 1.0);
        ui.add_enabled_ui(recipe.fresh_noise > 0.0, |ui| {
            let seed = field(ui, "Seed", DragValue::new(&mut recipe.noise_seed).speed(0.1).update_while_editing(false));
            held |= seed.is_pointer_button_down_on();
            seed.on_hover_text("Which other noise").on_disabled_hover_text("For fresh noise");
        });
        let steps = DragValue::new(&mut recipe.steps).range(1..=200).speed(0.1).update_while_editing(false);
        let steps = field(ui, "Steps", steps);
        held |= steps.is_pointer_button_down_on();
        steps.on_hover_text("Denoising steps of a finished picture");
        choose(ui, "Sampler", "How the decode takes its steps", &mut recipe.solver, &SOLVERS);
        choose(ui, "Inversion", "How the noise that leads to the photo is found", &mut recipe.inversion, &INVERSIONS);
        ui.add_space(space::XS);
        let width = ui.available_width();
        if ui
            .add_sized(vec2(width, size::ROW), Button::new("From noise to picture…"))
            .on_hover_text("Show every step of the decode, and the gap that the mean shift fills")
            .clicked()
        {
            inspector.is_open = true;
        }
        ui.add_space(space::XS);
    });
    match (*recipe != before, held) {
        (_, true) => Touch::Held { attribute: "Advanced".into(), moved: true },
        (true, false) => Touch::Changed(Change::Whole),
        (false, false) => Touch::None,
    }
}

/// A row with a list to choose from.
fn choose<T: Copy + PartialEq>(ui: &mut Ui, name: &str, tooltip: &str, value: &mut T, choices: &[(T, &str, &str)]) {
    row(ui, name, |ui| {
        let shown = choices.iter().find(|(choice, ..)| choice == value).map_or("", |(_, label, _)| label);
        let list = ComboBox::from_id_salt(name).selected_text(shown).truncate().width(ui.available_width());
        let list = list.show_ui(ui, |ui| {
            for (choice, label, meaning) in choices {
                ui.selectable_value(value, *choice, *label).on_hover_text(*meaning);
            }
        });
        let enabled = ui.is_enabled();
        list.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, enabled, format!("{name}: {shown}")));
        list.response.on_hover_text(tooltip);
    });
}

impl Inspector {
    /// Steps of the chain that were seen.
    pub fn steps_seen(&self) -> usize {
        self.chain.len()
    }

    pub fn take_noise(&mut self, ctx: &egui::Context, generation: u64, image: &RgbImage) {
        if generation == self.generation {
            self.noise = Some(picture::texture(ctx, "noise", image, TextureOptions::NEAREST));
        }
    }

    pub fn take_step(&mut self, ctx: &egui::Context, generation: u64, step: &Arc<ChainPicture>) {
        if generation == self.generation {
            let x_t = picture::texture(ctx, "x_t", &step.x_t, TextureOptions::LINEAR);
            let x0_hat = picture::texture(ctx, "x0_hat", &step.x0_hat, TextureOptions::LINEAR);
            self.chain.push((step.timestep, x_t, x0_hat));
        }
    }

    pub fn take_gap(&mut self, generation: u64, point: GapPoint) {
        if generation == self.generation {
            self.gap.push(point);
        }
    }

    /// The look was cancelled, or failed: it can be had again.
    pub fn break_off(&mut self) {
        self.broke_off = true;
    }

    /// Whether another look would show more.
    fn is_stale(&self, recipe: &Recipe) -> bool {
        self.broke_off || self.looked_at.as_ref() != Some(recipe)
    }

    /// Another photo: nothing was looked at.
    pub fn forget(&mut self) {
        *self = Self { is_open: self.is_open, generation: self.generation + 1, ..Self::default() };
    }

    /// Draws the box while it is open; returns a request for another look.
    /// `photo`: the present one, once it is read.
    pub fn show(&mut self, ctx: &egui::Context, recipe: &Recipe, photo: Option<PhotoId>) -> Option<Request> {
        if !self.is_open {
            return None;
        }
        // The first look needs no click.
        let mut look = self.looked_at.is_none();
        let frame = egui::Frame::window(&ctx.global_style()).shadow(egui::Shadow::NONE);
        let modal = egui::Modal::new(egui::Id::unique("inspector")).frame(frame).show(ctx, |ui| {
            ui.set_width(WIDTH);
            ui.heading("From noise to picture");
            ui.weak("The picture that the network sees in the noise, step by step.");
            ui.add_space(space::S);
            self.show_chain(ui);
            ui.add_space(space::M);
            ui.label("Posterior mean gap");
            ui.weak("How far the predicted mean of each step is from the true one: of the plain DPM, and with the mean shift.");
            ui.add_space(space::XS);
            show_plot(ui, &self.gap);
            ui.add_space(space::M);
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                let close = ui.button("Close").clicked();
                look |= ui
                    .add_enabled(self.is_stale(recipe) && photo.is_some(), Button::new("Look again"))
                    .on_hover_text("With the sliders as they are now")
                    .clicked();
                close
            })
            .inner
        });
        self.is_open = !(modal.inner || modal.should_close());
        let photo = photo.filter(|_| look)?;
        self.forget();
        self.looked_at = Some(recipe.clone());
        Some(Request::Inspect(InspectRequest { generation: self.generation, photo, recipe: recipe.clone(), gap_points: GAP_POINTS }))
    }

    fn show_chain(&self, ui: &mut Ui) {
        ScrollArea::horizontal().auto_shrink([false, true]).show(ui, |ui| {
            ui.horizontal(|ui| {
                let noise = self.noise.as_ref().map(|texture| (texture, "x_T".to_owned(), "The stochastic latent".to_owned()));
                let steps =
                    self.chain.iter().map(|(timestep, _, x0_hat)| (x0_hat, format!("t = {timestep}"), format!("x0 at t = {timestep}")));
                let mut any = false;
                for (texture, caption, name) in noise.into_iter().chain(steps) {
                    any = true;
                    let (rect, response) = ui.allocate_exact_size(vec2(PICTURE, PICTURE), Sense::hover());
                    response.widget_info(|| WidgetInfo::labeled(Role::Image, true, &name));
                    picture::paint(ui, &rect, rect, texture, &caption);
                }
                if !any {
                    ui.allocate_exact_size(vec2(PICTURE, PICTURE), Sense::hover());
                }
            });
        });
    }
}

/// Both gaps over the timesteps, on a logarithmic scale: they span several powers of ten.
fn show_plot(ui: &mut Ui, gap: &[GapPoint]) {
    let palette = Palette::of(ui.visuals());
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), PLOT_HEIGHT), Sense::hover());
    response.widget_info(|| WidgetInfo::labeled(Role::Image, true, "Posterior mean gap by timestep"));
    let painter = ui.painter_at(rect);
    painter.rect_filled(rect, f32::from(radius::CONTROL), palette.field);
    let font = TextStyle::Small.resolve(ui.style());
    let Some((low, high)) = range(gap) else {
        painter.text(rect.center(), Align2::CENTER_CENTER, "Measured after the last step", font, palette.weak_text);
        return;
    };
    let plot = Rect::from_min_max(rect.min + vec2(48.0, space::M), rect.max - vec2(space::M, size::ROW));
    let last = gap.iter().map(|point| point.timestep).max().unwrap_or(1).max(1) as f32;
    let place = |timestep: usize, value: f64| {
        let up = ((value.max(f64::MIN_POSITIVE).log10() - low) / (high - low)) as f32;
        pos2(plot.left() + timestep as f32 / last * plot.width(), plot.bottom() - up * plot.height())
    };
    for power in low as i32..=high as i32 {
        let y = plot.bottom() - ((f64::from(power) - low) / (high - low)) as f32 * plot.height();
        painter.hline(plot.x_range(), y, Stroke::new(1.0, palette.line));
        // Labels only where they do not run into each other.
        if (high - low) as f32 * 14.0 < plot.height() || power % 2 == 0 {
            painter.text(pos2(plot.left() - space::XS, y), Align2::RIGHT_CENTER, format!("1e{power}"), font.clone(), palette.weak_text);
        }
    }
    painter.text(plot.left_bottom() + vec2(0.0, space::XS), Align2::LEFT_TOP, "t = 0", font.clone(), palette.weak_text);
    let end = format!("t = {last}");
    painter.text(plot.right_bottom() + vec2(0.0, space::XS), Align2::RIGHT_TOP, end, font.clone(), palette.weak_text);
    line(&painter, gap.iter().map(|point| place(point.timestep, point.plain)).collect(), palette.draft);
    line(&painter, gap.iter().map(|point| place(point.timestep, point.shifted)).collect(), palette.accent);
    let centre = plot.center_bottom() + vec2(0.0, space::XS);
    painter.text(centre - vec2(space::S, 0.0), Align2::RIGHT_TOP, "plain DPM", font.clone(), palette.draft);
    painter.text(centre + vec2(space::S, 0.0), Align2::LEFT_TOP, "with the shift", font, palette.accent);
}

fn line(painter: &Painter, points: Vec<Pos2>, colour: egui::Color32) {
    for point in &points {
        painter.circle_filled(*point, 2.0, colour);
    }
    painter.add(Shape::line(points, Stroke::new(1.5, colour)));
}

/// Whole powers of ten around all values that can be shown, as exponents.
fn range(gap: &[GapPoint]) -> Option<(f64, f64)> {
    let values = gap.iter().flat_map(|point| [point.plain, point.shifted]).filter(|value| *value > 0.0 && value.is_finite());
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    (low <= high).then(|| (low.log10().floor(), high.log10().ceil().max(low.log10().floor() + 1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plot_spans_whole_powers_of_ten() {
        let point = |plain, shifted| GapPoint { timestep: 1, plain, shifted };
        assert_eq!(range(&[]), None);
        assert_eq!(range(&[point(0.0, f64::NAN)]), None, "nothing that a logarithm could show");
        assert_eq!(range(&[point(2e-3, 5e-6)]), Some((-6.0, -2.0)));
        assert_eq!(range(&[point(1.0, 1.0)]), Some((0.0, 1.0)));
    }

    #[test]
    fn a_look_that_broke_off_can_be_had_again() {
        let recipe = Recipe::default();
        let mut inspector = Inspector { looked_at: Some(recipe.clone()), ..Inspector::default() };
        assert!(!inspector.is_stale(&recipe));
        inspector.break_off();
        assert!(inspector.is_stale(&recipe));
        inspector.forget();
        inspector.looked_at = Some(recipe.clone());
        assert!(!inspector.is_stale(&recipe));
    }

    #[test]
    fn a_look_at_another_photo_is_not_mixed_in() {
        let mut inspector = Inspector::default();
        inspector.forget();
        inspector.take_gap(0, GapPoint { timestep: 1, plain: 1.0, shifted: 1.0 });
        assert!(inspector.gap.is_empty());
        inspector.take_gap(1, GapPoint { timestep: 1, plain: 1.0, shifted: 1.0 });
        assert_eq!(inspector.gap.len(), 1);
    }
}
