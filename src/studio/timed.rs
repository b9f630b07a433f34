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
    /// Frames drawn, and frames with the photo among them.
    frames: usize,
    with_photo: usize,
}

/// As [`super::run`], but what the window remembers is neither read nor written.
pub fn run(options: StartOptions) -> Result<(), eframe::Error> {
    let folder = tempfile::tempdir().map_err(|error| eframe::Error::AppCreation(error.into()))?;
    let native = eframe::NativeOptions { persistence_path: Some(folder.path().join("settings.ron")), ..native_options() };
    let start = move |cc: &eframe::CreationContext<'_>| -> Result<Box<dyn eframe::App>, _> {
        Ok(Box::new(Timed { app: StudioApp::new(cc, options), frames: 0, with_photo: 0 }))
    };
    eframe::run_native(APP_ID, native, Box::new(start))
}

fn tell(what: &str) {
    println!("{what}");
    let _ = std::io::stdout().flush();
}

impl eframe::App for Timed {
    fn logic(&mut self, ctx: &egui::Context, frame: &mut eframe::Frame) {
        // A frame is on the screen when the next one begins.
        match (self.frames, self.with_photo) {
            (1, _) => tell(DRAWN),
            (_, 1) => {
                tell(READY);
                ctx.send_viewport_cmd(ViewportCommand::Close);
            }
            _ => {}
        }
        eframe::App::logic(&mut self.app, ctx, frame);
        ctx.request_repaint_after(Duration::from_millis(5));
    }

    fn ui(&mut self, ui: &mut Ui, frame: &mut eframe::Frame) {
        eframe::App::ui(&mut self.app, ui, frame);
        self.frames += 1;
        self.with_photo += usize::from(self.app.frame().is_some());
    }
}
