//! A sequence of pictures in one file: a strip, an animation, or a video through the `ffmpeg` program.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use image::codecs::gif::{GifEncoder, Repeat};
use image::{Delay, DynamicImage, Frame, GenericImage, RgbImage};
use thiserror::Error;

use super::encode::{EncodeError, PNG_XMP};
use super::export::{ExportError, write_with};
use super::xmp::{self, DigitalSource};

/// How a sequence is written, chosen by the file's ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SequenceFormat {
    /// Side by side in one PNG.
    Strip,
    /// 256 colours a frame.
    Gif,
    Apng,
    WebP,
    Mp4,
    WebM,
}

/// What a sequence is and how it is shown.
#[derive(Debug)]
pub struct Sequence {
    /// Pictures of one size, at least one.
    pub frames: Vec<RgbImage>,
    /// How long each is shown, in milliseconds (1 to 65535).
    pub frame_time: u16,
    /// Whether the file says that a trained model made it (formats without XMP cannot).
    pub state_source: bool,
}

#[derive(Debug, Error)]
pub enum SequenceError {
    #[error("{path} does not end in .png (a strip), .gif, .apng, .webp, .mp4 or .webm, so it is not clear how to write it", path = .0.display())]
    Ending(PathBuf),
    #[error("{path} is a video, which needs the ffmpeg program, and that was not found. Install ffmpeg, or write .webp or .apng", path = .0.display())]
    NoFfmpeg(PathBuf),
    #[error("the pictures are of different sizes or there are none")]
    Frames,
    #[error(transparent)]
    Export(#[from] ExportError),
}

impl SequenceFormat {
    /// By the ending of `path`.
    pub fn of(path: &Path) -> Result<Self, SequenceError> {
        match path.extension().map(|e| e.to_string_lossy().to_lowercase()).as_deref() {
            Some("png") => Ok(Self::Strip),
            Some("gif") => Ok(Self::Gif),
            Some("apng") => Ok(Self::Apng),
            Some("webp") => Ok(Self::WebP),
            Some("mp4") => Ok(Self::Mp4),
            Some("webm") => Ok(Self::WebM),
            _ => Err(SequenceError::Ending(path.into())),
        }
    }

    /// Whether what it takes is installed.
    pub fn check_available(self, path: &Path) -> Result<(), SequenceError> {
        let is_video = matches!(self, Self::Mp4 | Self::WebM);
        let runs = || Command::new("ffmpeg").arg("-version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if is_video && !runs().is_ok_and(|status| status.success()) {
            return Err(SequenceError::NoFfmpeg(path.into()));
        }
        Ok(())
    }
}

impl Sequence {
    /// Writes it in the format that the ending of `path` names.
    pub fn write(&self, path: &Path, overwrite: bool) -> Result<(), SequenceError> {
        let format = SequenceFormat::of(path)?;
        let size = self.frames.first().ok_or(SequenceError::Frames)?.dimensions();
        if self.frames.iter().any(|f| f.dimensions() != size) || size.0 == 0 || size.1 == 0 {
            return Err(SequenceError::Frames);
        }
        if path.exists() && !overwrite {
            return Err(ExportError::Exists(path.into()).into());
        }
        let packet = self.state_source.then(|| xmp::statement(DigitalSource::TrainedAlgorithmicMedia));
        match format {
            SequenceFormat::Strip => write_with(path, overwrite, |out| apng(&[strip(&self.frames)], None, packet, out))?,
            SequenceFormat::Apng => write_with(path, overwrite, |out| apng(&self.frames, Some(self.frame_time), packet, out))?,
            SequenceFormat::Gif => write_with(path, overwrite, |out| self.gif(out))?,
            SequenceFormat::WebP => write_with(path, overwrite, |out| self.webp(packet, out))?,
            SequenceFormat::Mp4 | SequenceFormat::WebM => self.video(path, format, overwrite)?,
        }
        Ok(())
    }

    fn gif(&self, out: &mut impl Write) -> Result<(), EncodeError> {
        let mut encoder = GifEncoder::new_with_speed(out, 10);
        encoder.set_repeat(Repeat::Infinite)?;
        for frame in &self.frames {
            let delay = Delay::from_numer_denom_ms(self.frame_time.into(), 1);
            encoder.encode_frame(Frame::from_parts(DynamicImage::ImageRgb8(frame.clone()).into_rgba8(), 0, 0, delay))?;
        }
        Ok(())
    }

    /// An extended WebP (<https://developers.google.com/speed/webp/docs/riff_container>): the encoder makes single pictures, whose
    /// bitstream is what a frame holds.
    fn webp(&self, packet: Option<Vec<u8>>, out: &mut impl Write) -> Result<(), EncodeError> {
        const XMP_FLAG: u8 = 4;
        const ANIMATION_FLAG: u8 = 2;
        let (width, height) = self.frames[0].dimensions();
        let three = |value: u32| value.to_le_bytes()[..3].to_vec();
        let size = [three(width - 1), three(height - 1)].concat();
        let flags = ANIMATION_FLAG | if packet.is_some() { XMP_FLAG } else { 0 };
        let mut body = b"WEBP".to_vec();
        push_chunk(&mut body, b"VP8X", &[&[flags, 0, 0, 0], &size[..]].concat());
        // White background; 0 = for ever.
        push_chunk(&mut body, b"ANIM", &[255, 255, 255, 255, 0, 0]);
        for frame in &self.frames {
            let mut single = vec![];
            image_webp::WebPEncoder::new(&mut single).encode(frame, width, height, image_webp::ColorType::Rgb8)?;
            // Behind "RIFF", the length and "WEBP" comes the one chunk of a simple file.
            let bitstream = &single[12..];
            // Offset 0, 0; frames replace each other.
            let head = [&[0; 6], &size[..], &three(self.frame_time.into()), &[2]].concat();
            push_chunk(&mut body, b"ANMF", &[&head, bitstream].concat());
        }
        if let Some(packet) = packet {
            push_chunk(&mut body, b"XMP ", &packet);
        }
        let mut file = vec![];
        push_chunk(&mut file, b"RIFF", &body);
        Ok(out.write_all(&file)?)
    }

    /// Raw frames go into the program's standard input; it writes into a temporary folder, from where the result is copied.
    fn video(&self, path: &Path, format: SequenceFormat, overwrite: bool) -> Result<(), SequenceError> {
        let failed = |reason: String| ExportError::Write { path: path.into(), reason };
        let (width, height) = self.frames[0].dimensions();
        let folder = tempfile::tempdir().map_err(|e| failed(e.to_string()))?;
        let made = folder.path().join("video").with_extension(path.extension().unwrap_or_default());
        let codec: &[&str] = if format == SequenceFormat::Mp4 {
            &["-c:v", "libx264", "-crf", "16", "-movflags", "+faststart"]
        } else {
            &["-c:v", "libvpx-vp9", "-crf", "20", "-b:v", "0"]
        };
        let mut child = Command::new("ffmpeg")
            .args(["-loglevel", "error", "-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", &format!("{width}x{height}")])
            .args(["-framerate", &format!("1000/{}", self.frame_time), "-i", "pipe:0"])
            // Players want even sides and this chroma layout.
            .args(["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-pix_fmt", "yuv420p"])
            .args(codec)
            .arg(&made)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|_| SequenceError::NoFfmpeg(path.into()))?;
        if let Some(mut stdin) = child.stdin.take() {
            for frame in &self.frames {
                // If it stops reading, its own message says why.
                if stdin.write_all(frame).is_err() {
                    break;
                }
            }
        }
        let output = child.wait_with_output().map_err(|e| failed(e.to_string()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(failed(format!("ffmpeg said: {}", said.trim().lines().last().unwrap_or("nothing"))).into());
        }
        let bytes = std::fs::read(&made).map_err(|e| failed(e.to_string()))?;
        Ok(write_with(path, overwrite, |out| out.write_all(&bytes))?)
    }
}

fn push_chunk(to: &mut Vec<u8>, id: &[u8; 4], contents: &[u8]) {
    to.extend(id);
    to.extend((contents.len() as u32).to_le_bytes());
    to.extend(contents);
    if contents.len() % 2 == 1 {
        to.push(0);
    }
}

/// All frames side by side.
fn strip(frames: &[RgbImage]) -> RgbImage {
    let (width, height) = frames[0].dimensions();
    let mut strip = RgbImage::new(width * frames.len() as u32, height);
    for (i, frame) in frames.iter().enumerate() {
        // It has room for all of them, which is the only thing that can be wrong.
        let _ = strip.copy_from(frame, width * i as u32, 0);
    }
    strip
}

/// A PNG: still without `frame_time`, animated with it.
fn apng(frames: &[RgbImage], frame_time: Option<u16>, packet: Option<Vec<u8>>, out: &mut impl Write) -> Result<(), EncodeError> {
    let (width, height) = frames[0].dimensions();
    let mut encoder = png::Encoder::new(out, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    if let Some(milliseconds) = frame_time {
        encoder.set_animated(frames.len() as u32, 0)?;
        encoder.set_frame_delay(milliseconds, 1000)?;
    }
    if let Some(packet) = packet {
        encoder.add_itxt_chunk(PNG_XMP.to_owned(), String::from_utf8_lossy(&packet).into_owned())?;
    }
    let mut writer = encoder.write_header()?;
    for frame in frames {
        writer.write_image_data(frame)?;
    }
    Ok(writer.finish()?)
}
