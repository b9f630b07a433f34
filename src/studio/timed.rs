//! A window that tells when it has drawn itself and when the photo is in it, and then closes: what `bench` measures a start by.

use std::io::Write;
use std::time::Duration;

use egui::{Ui, ViewportCommand};

use super::{APP_ID, StartOptions, StudioApp, native_options};

/// Printed, a line each, once what they name is on the screen.
pub const DRAWN: &str = "drawn";
pub const READY: &str = "ready";

struct Timed {
    app: StudioApp,
    /// What is on the screen once the next frame begins, and what was told of it.
    drawn: bool,
    with_photo: bool,
    told_drawn: bool,
    told_ready: bool,
}

/// As [`super::run`], but what the window remembers is neither read nor written.
pub fn run(options: StartOptions) -> Result<(), eframe::Error> {
    let folder = tempfile::tempdir().map_err(|error| eframe::Error::AppCreation(error.into()))?;
    let native = eframe::NativeOptions { persistence_path: Some(folder.path().join("settings.ron")), ..native_options() };
    let start = move |cc: &eframe::CreationContext<'_>| -> Result<Box<dyn eframe::App>, _> {
        Ok(Box::new(Timed { app: StudioApp::new(cc, options), drawn: false, with_photo: false, told_drawn: false, told_ready: false }))
    };
    eframe::run_native(APP_ID, native, Box::new(start))
}

fn tell(what: &str) {
    println!("{what}");
    let _ = std::io::stdout().flush();
}

impl eframe::App for Timed {
    fn logic(&mut self, ctx: &egui::Context, frame: &mut eframe::Frame) {
        // This may be called several times a frame; each is told once, the window before the photo.
        if self.drawn && !std::mem::replace(&mut self.told_drawn, self.drawn) {
            tell(DRAWN);
        }
        if self.with_photo && !std::mem::replace(&mut self.told_ready, self.with_photo) {
            tell(READY);
            ctx.send_viewport_cmd(ViewportCommand::Close);
        }
        eframe::App::logic(&mut self.app, ctx, frame);
        ctx.request_repaint_after(Duration::from_millis(5));
    }

    fn ui(&mut self, ui: &mut Ui, frame: &mut eframe::Frame) {
        eframe::App::ui(&mut self.app, ui, frame);
        self.drawn = true;
        self.with_photo |= self.app.frame().is_some();
    }
}
