//! Design tokens: every distance, radius, text size and colour of the window, in both themes. Nothing else in the window names one.

use egui::style::{Selection, WidgetVisuals};
use egui::{Color32, CornerRadius, FontFamily, FontId, Margin, Shadow, Stroke, TextStyle, Theme, Ui, Vec2, Visuals};

/// Distances in points.
pub mod space {
    pub const XS: f32 = 4.0;
    pub const S: f32 = 8.0;
    pub const M: f32 = 12.0;
    pub const L: f32 = 20.0;
}

/// Corner radii in points.
pub mod radius {
    pub const CONTROL: u8 = 6;
    pub const CARD: u8 = 10;
    pub const PICTURE: u8 = 4;
}

/// Fixed sizes in points.
pub mod size {
    pub const TOP_BAR: f32 = 46.0;
    pub const MENU_BAR: f32 = 240.0;
    pub const MENU: f32 = 220.0;
    pub const STATUS_BAR: f32 = 28.0;
    pub const PANEL: f32 = 360.0;
    pub const PANEL_MIN: f32 = 330.0;
    pub const PANEL_MAX: f32 = 520.0;
    pub const ROW: f32 = 26.0;
    pub const VALUE: f32 = 48.0;
    /// The longest of the usual names fits.
    pub const NAME: f32 = 124.0;
    pub const RESET: f32 = 20.0;
    pub const NOTICE: f32 = 520.0;
    pub const PROGRESS: f32 = 300.0;
    pub const DIALOG: f32 = 480.0;
    pub const BROWSE: f32 = 90.0;
    /// Side of a picture that stands for an open photo.
    pub const THUMBNAIL: f32 = 56.0;
    /// The panel beside the interpolation.
    pub const OPTIONS: f32 = 304.0;
    /// Names in forms.
    pub const FORM_LABEL: f32 = 84.0;
}

const SMALL_TEXT: f32 = 11.5;
const BODY_TEXT: f32 = 13.5;
const HEADING_TEXT: f32 = 17.0;

/// The colours of one theme, by purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Palette {
    /// Behind the picture.
    pub canvas: Color32,
    /// Bars and panels.
    pub panel: Color32,
    /// Buttons at rest.
    pub control: Color32,
    pub control_hovered: Color32,
    pub control_active: Color32,
    /// What a slider's handle runs along, and the ring of the handle at rest.
    pub rail: Color32,
    /// Text fields.
    pub field: Color32,
    /// Notices, menus, tooltips.
    pub raised: Color32,
    /// Behind commands of which one is chosen, which is raised.
    pub switch: Color32,
    /// Hairlines between areas.
    pub line: Color32,
    pub text: Color32,
    pub weak_text: Color32,
    pub strong_text: Color32,
    pub accent: Color32,
    pub on_accent: Color32,
    /// A finished picture.
    pub good: Color32,
    /// A picture that is still to be refined.
    pub draft: Color32,
    /// Something went wrong.
    pub alert: Color32,
}

/// Chips and the divider lie on the picture, so they look the same in both themes.
pub mod on_picture {
    use egui::Color32;

    pub const CHIP: Color32 = Color32::from_black_alpha(150);
    pub const CHIP_TEXT: Color32 = Color32::from_gray(245);
    pub const DIVIDER: Color32 = Color32::from_gray(250);
    pub const SHADOW: Color32 = Color32::from_black_alpha(90);
    /// Over what lies beyond the frame that is being set.
    pub const OUTSIDE: Color32 = Color32::from_black_alpha(140);
}

impl Palette {
    pub const DARK: Self = Self {
        canvas: Color32::from_rgb(17, 18, 20),
        panel: Color32::from_rgb(27, 29, 32),
        control: Color32::from_rgb(47, 50, 56),
        control_hovered: Color32::from_rgb(58, 62, 69),
        control_active: Color32::from_rgb(70, 75, 84),
        rail: Color32::from_rgb(66, 70, 78),
        field: Color32::from_rgb(19, 20, 23),
        raised: Color32::from_rgb(36, 38, 43),
        switch: Color32::from_rgb(19, 20, 23),
        line: Color32::from_rgb(44, 47, 52),
        text: Color32::from_rgb(214, 217, 222),
        weak_text: Color32::from_rgb(147, 152, 161),
        strong_text: Color32::from_rgb(245, 246, 248),
        accent: Color32::from_rgb(76, 141, 246),
        on_accent: Color32::from_rgb(255, 255, 255),
        good: Color32::from_rgb(94, 196, 136),
        draft: Color32::from_rgb(230, 178, 80),
        alert: Color32::from_rgb(240, 128, 110),
    };

    pub const LIGHT: Self = Self {
        canvas: Color32::from_rgb(228, 230, 233),
        panel: Color32::from_rgb(249, 250, 251),
        control: Color32::from_rgb(231, 233, 237),
        control_hovered: Color32::from_rgb(220, 223, 228),
        control_active: Color32::from_rgb(206, 210, 217),
        rail: Color32::from_rgb(182, 187, 196),
        field: Color32::from_rgb(255, 255, 255),
        raised: Color32::from_rgb(255, 255, 255),
        switch: Color32::from_rgb(213, 216, 222),
        line: Color32::from_rgb(218, 221, 226),
        text: Color32::from_rgb(45, 49, 56),
        weak_text: Color32::from_rgb(103, 109, 119),
        strong_text: Color32::from_rgb(16, 18, 22),
        accent: Color32::from_rgb(31, 103, 217),
        on_accent: Color32::from_rgb(255, 255, 255),
        good: Color32::from_rgb(27, 128, 75),
        draft: Color32::from_rgb(158, 102, 0),
        alert: Color32::from_rgb(186, 52, 36),
    };

    pub fn of(visuals: &Visuals) -> &'static Self {
        if visuals.dark_mode { &Self::DARK } else { &Self::LIGHT }
    }
}

/// Makes controls that lie on the canvas stand out from it: the light one is as grey as they are elsewhere.
pub fn stand_out_from_canvas(ui: &mut Ui) {
    let palette = Palette::of(ui.visuals());
    if !ui.visuals().dark_mode {
        let inactive = &mut ui.visuals_mut().widgets.inactive;
        (inactive.weak_bg_fill, inactive.bg_fill) = (palette.raised, palette.control_active);
    }
}

/// Gives both themes their look; which one is shown follows the system.
pub fn apply(ctx: &egui::Context) {
    for (theme, palette) in [(Theme::Dark, &Palette::DARK), (Theme::Light, &Palette::LIGHT)] {
        ctx.style_mut_of(theme, |style| {
            style.text_styles = [
                (TextStyle::Small, FontId::new(SMALL_TEXT, FontFamily::Proportional)),
                (TextStyle::Body, FontId::new(BODY_TEXT, FontFamily::Proportional)),
                (TextStyle::Button, FontId::new(BODY_TEXT, FontFamily::Proportional)),
                (TextStyle::Heading, FontId::new(HEADING_TEXT, FontFamily::Proportional)),
                (TextStyle::Monospace, FontId::new(SMALL_TEXT, FontFamily::Monospace)),
            ]
            .into();
            style.spacing.item_spacing = Vec2::new(space::S, space::XS);
            style.spacing.button_padding = Vec2::new(10.0, 4.0);
            style.spacing.interact_size = Vec2::new(36.0, 24.0);
            style.spacing.slider_rail_height = 4.0;
            style.spacing.menu_margin = Margin::same(6);
            style.spacing.window_margin = Margin::same(16);
            style.visuals = visuals(theme, palette);
        });
    }
}

fn visuals(theme: Theme, palette: &Palette) -> Visuals {
    let mut visuals = theme.default_visuals();
    let widget = |fill: Color32, text: Color32| WidgetVisuals {
        bg_fill: fill,
        weak_bg_fill: fill,
        bg_stroke: Stroke::NONE,
        corner_radius: CornerRadius::same(radius::CONTROL),
        fg_stroke: Stroke::new(1.0, text),
        expansion: 0.0,
    };
    visuals.widgets.noninteractive = WidgetVisuals { bg_stroke: Stroke::new(1.0, palette.line), ..widget(palette.panel, palette.text) };
    visuals.widgets.inactive = widget(palette.control, palette.text);
    visuals.widgets.hovered = widget(palette.control_hovered, palette.strong_text);
    visuals.widgets.active = widget(palette.control_active, palette.strong_text);
    // The keyboard's place must be seen: focus is drawn as an active widget.
    visuals.widgets.active.bg_stroke = Stroke::new(1.5, palette.accent);
    visuals.widgets.open = widget(palette.control_hovered, palette.strong_text);
    // The stroke is both the frame of a focused text field and the text of whatever is selected.
    visuals.selection = Selection { bg_fill: palette.accent.gamma_multiply(0.25), stroke: Stroke::new(1.0, palette.accent) };
    visuals.hyperlink_color = palette.accent;
    visuals.faint_bg_color = palette.control;
    visuals.extreme_bg_color = palette.field;
    visuals.weak_text_color = Some(palette.weak_text);
    visuals.warn_fg_color = palette.draft;
    visuals.error_fg_color = palette.alert;
    visuals.panel_fill = palette.panel;
    visuals.window_fill = palette.raised;
    visuals.window_stroke = Stroke::new(1.0, palette.line);
    visuals.window_corner_radius = CornerRadius::same(radius::CARD);
    visuals.menu_corner_radius = CornerRadius::same(radius::CONTROL + 2);
    let shadow = Shadow { offset: [0, 4], blur: 16, spread: 0, color: Color32::from_black_alpha(60) };
    visuals.window_shadow = shadow;
    visuals.popup_shadow = shadow;
    visuals.indent_has_left_vline = false;
    visuals
}
