//! The open photos, each with its own edit, and the strip that they are chosen from.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use egui::{Align2, Color32, Rect, Role, ScrollArea, Sense, Stroke, StrokeKind, TextureHandle, TextureOptions, Ui, WidgetInfo, pos2, vec2};
use image::RgbImage;
use image::imageops;

use super::history::History;
use super::history_strip::{Looks, Snapshot};
use super::status::OpenPhoto;
use super::tokens::{Palette, radius, size, space};
use crate::editing::Recipe;
use crate::engine::PhotoId;
use crate::photo::Frame;

/// Side in pixels of the picture that stands for a photo.
const THUMBNAIL: u32 = 160;

/// All open photos, in the order of their opening.
#[derive(Default)]
pub struct Shelf {
    photos: Vec<Shelved>,
    present: Option<PhotoId>,
    /// The engine may still tell of these.
    closed: BTreeSet<PhotoId>,
}

/// An open photo. What a person did to it is here only while another one is the present one.
pub struct Shelved {
    pub id: PhotoId,
    pub photo: OpenPhoto,
    pub path: Option<PathBuf>,
    /// Where its pixels are kept, if it has no file of its own.
    pub stored: Option<PathBuf>,
    /// Of its file as it was read, as hexadecimal.
    pub sha256: Option<String>,
    /// Where the model looks, in pixels of the photo.
    pub frame: Frame,
    /// Whether the person chose it: another face than the one that is found first, or a frame by hand.
    pub frame_is_set: bool,
    /// The face, square.
    pub thumbnail: TextureHandle,
    pub kept: Kept,
}

/// What a person did to a photo.
#[derive(Default)]
pub struct Kept {
    pub recipe: Recipe,
    pub history: History,
    pub snapshots: Vec<Snapshot>,
    pub looks: Looks,
}

/// What a click on the strip asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    Select(PhotoId),
    Close(PhotoId),
}

impl Shelf {
    /// Photos that may be open at a time; each is kept in memory at its own size.
    pub const MOST: usize = 24;

    pub fn len(&self) -> usize {
        self.photos.len()
    }

    pub fn is_empty(&self) -> bool {
        self.photos.is_empty()
    }

    pub fn present(&self) -> Option<PhotoId> {
        self.present
    }

    pub fn iter(&self) -> impl Iterator<Item = &Shelved> {
        self.photos.iter()
    }

    pub fn get(&self, id: PhotoId) -> Option<&Shelved> {
        self.photos.iter().find(|photo| photo.id == id)
    }

    pub fn was_closed(&self, id: PhotoId) -> bool {
        self.closed.contains(&id)
    }

    pub fn of_path(&self, path: &Path) -> Option<PhotoId> {
        self.photos.iter().find(|photo| photo.path.as_deref() == Some(path)).map(|photo| photo.id)
    }

    /// Keeps what was done to the present photo.
    pub fn keep(&mut self, kept: Kept) {
        let present = self.present;
        if let Some(photo) = self.photos.iter_mut().find(|photo| Some(photo.id) == present) {
            photo.kept = kept;
        }
    }

    /// A photo is seen through another frame.
    pub fn reframe(&mut self, id: PhotoId, frame: Frame, frame_is_set: bool, thumbnail: TextureHandle) {
        if let Some(photo) = self.photos.iter_mut().find(|photo| photo.id == id) {
            (photo.frame, photo.frame_is_set, photo.thumbnail) = (frame, frame_is_set, thumbnail);
            photo.kept.looks = Looks::default();
        }
    }

    /// The pixels of a photo are kept in a file of the program's own.
    pub fn set_stored(&mut self, id: PhotoId, file: PathBuf) {
        if let Some(photo) = self.photos.iter_mut().find(|photo| photo.id == id) {
            photo.stored = Some(file);
        }
    }

    /// Makes a photo the present one; returns what was done to it, `None` if it is new.
    pub fn place(&mut self, photo: Shelved) -> Option<Kept> {
        self.present = Some(photo.id);
        match self.photos.iter_mut().find(|other| other.id == photo.id) {
            Some(known) => {
                let kept = std::mem::take(&mut known.kept);
                *known = photo;
                Some(kept)
            }
            None => {
                self.photos.push(photo);
                None
            }
        }
    }

    /// Takes a photo out; returns the one beside it.
    pub fn remove(&mut self, id: PhotoId) -> Option<PhotoId> {
        let index = self.photos.iter().position(|photo| photo.id == id)?;
        self.photos.remove(index);
        self.closed.insert(id);
        if self.present == Some(id) {
            self.present = None;
        }
        self.photos.get(index.min(self.photos.len().saturating_sub(1))).map(|photo| photo.id)
    }

    /// Draws the strip, from top to bottom.
    pub fn show(&self, ui: &mut Ui) -> Option<Choice> {
        let mut choice = None;
        ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            ui.spacing_mut().item_spacing.y = space::S;
            for photo in &self.photos {
                choice = choice.or(show_one(ui, photo, self.present == Some(photo.id)));
            }
        });
        choice
    }
}

fn show_one(ui: &mut Ui, photo: &Shelved, present: bool) -> Option<Choice> {
    let palette = Palette::of(ui.visuals());
    let side = vec2(size::THUMBNAIL, size::THUMBNAIL);
    let (rect, response) = ui.allocate_exact_size(side, Sense::click());
    response.widget_info(|| WidgetInfo::selected(Role::Button, true, present, format!("Show {}", photo.photo.name)));
    egui::Image::from_texture(&photo.thumbnail).corner_radius(radius::PICTURE).paint_at(ui, rect);
    let stroke = match (present, response.hovered() || response.has_focus()) {
        (true, _) => Stroke::new(2.0, palette.accent),
        (false, true) => Stroke::new(2.0, palette.control_active),
        (false, false) => Stroke::NONE,
    };
    ui.painter().rect_stroke(rect, f32::from(radius::PICTURE), stroke, StrokeKind::Outside);
    let response = response.on_hover_text(&photo.photo.name);
    let mut choice = response.clicked().then_some(Choice::Select(photo.id));
    let near = response.contains_pointer() || response.has_focus();
    let corner = Rect::from_min_size(pos2(rect.right() - 18.0, rect.top()), vec2(18.0, 18.0));
    let close = ui.interact(corner, ui.scope_id().with(("close", photo.id)), Sense::click());
    close.widget_info(|| WidgetInfo::labeled(Role::Button, true, format!("Close {}", photo.photo.name)));
    if near || close.hovered() || close.has_focus() {
        ui.painter().rect_filled(corner, f32::from(radius::PICTURE), super::tokens::on_picture::CHIP);
        let font = egui::TextStyle::Body.resolve(ui.style());
        ui.painter().text(corner.center(), Align2::CENTER_CENTER, "×", font, Color32::WHITE);
    }
    if close.on_hover_text("Close this photo").clicked() || response.middle_clicked() {
        choice = Some(Choice::Close(photo.id));
    }
    choice
}

/// The face in a photo, as a texture: the frame's upright square, from the picture that the window shows of the photo (`width` pixels
/// wide in the file).
pub fn thumbnail(ctx: &egui::Context, original: &RgbImage, width: u32, frame: Frame) -> TextureHandle {
    let frame = frame.scaled(f64::from(original.width()) / f64::from(width.max(1)));
    let side = frame.side.min(f64::from(original.width().min(original.height()))).max(1.0);
    let start = |centre: f64, length: u32| (centre - side / 2.0).clamp(0.0, (f64::from(length) - side).max(0.0)) as u32;
    let (x, y) = (start(frame.centre[0], original.width()), start(frame.centre[1], original.height()));
    let cut = imageops::crop_imm(original, x, y, side as u32, side as u32).to_image();
    let small = imageops::resize(&cut, THUMBNAIL, THUMBNAIL, imageops::FilterType::Triangle);
    super::picture::texture(ctx, "thumbnail", &small, TextureOptions::LINEAR)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shelved(ctx: &egui::Context, id: u64) -> Shelved {
        let picture = RgbImage::new(8, 6);
        let frame = Frame { centre: [4.0, 3.0], side: 6.0, angle: 0.0 };
        Shelved {
            id: PhotoId(id),
            photo: OpenPhoto { name: format!("photo {id}"), width: 8, height: 6 },
            path: Some(PathBuf::from(format!("/tmp/{id}.png"))),
            stored: None,
            sha256: None,
            frame,
            frame_is_set: false,
            thumbnail: thumbnail(ctx, &picture, 8, frame),
            kept: Kept::default(),
        }
    }

    #[test]
    fn each_photo_keeps_its_own_edit() {
        let ctx = egui::Context::default();
        let mut shelf = Shelf::default();
        assert!(shelf.place(shelved(&ctx, 1)).is_none());
        let mut recipe = Recipe::default();
        recipe.set_slider("Smiling", 40.0);
        shelf.keep(Kept { recipe: recipe.clone(), ..Kept::default() });
        assert!(shelf.place(shelved(&ctx, 2)).is_none());
        shelf.keep(Kept::default());
        let back = shelf.place(shelved(&ctx, 1)).unwrap();
        assert_eq!(back.recipe, recipe);
        assert_eq!((shelf.len(), shelf.present()), (2, Some(PhotoId(1))));
        assert_eq!(shelf.of_path(Path::new("/tmp/2.png")), Some(PhotoId(2)));
        assert_eq!(shelf.remove(PhotoId(1)), Some(PhotoId(2)));
        assert_eq!(shelf.remove(PhotoId(2)), None);
        assert!(shelf.was_closed(PhotoId(2)) && !shelf.was_closed(PhotoId(3)));
    }

    #[test]
    fn frames_beyond_the_photo_still_give_a_thumbnail() {
        let ctx = egui::Context::default();
        let picture = RgbImage::new(8, 6);
        for frame in [Frame { centre: [-50.0, 90.0], side: 40.0, angle: 1.0 }, Frame { centre: [7.0, 5.0], side: 0.2, angle: 0.0 }] {
            assert_eq!(thumbnail(&ctx, &picture, 800, frame).size(), [THUMBNAIL as usize; 2]);
        }
    }
}
