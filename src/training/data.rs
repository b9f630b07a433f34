//! Images in memory and the batches drawn from them.

use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::tensor::{Device, Int, Tensor, TensorData};
use crossbeam_channel::{Receiver, bounded};
use image::imageops::{self, FilterType};
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::StandardNormal;

use super::TrainError;
use super::parts::Divide;

/// How deep below the given folder images are looked for.
const MAX_DEPTH: usize = 4;
/// Threads that prepare batches ahead of the device. A GPU eats faster than one thread can draw noise.
const MAX_LOADERS: usize = 8;

/// Square RGB images, decoded once and kept as bytes, sorted by file name.
#[derive(Debug)]
pub struct ImageSet {
    /// Side in pixels.
    pub size: usize,
    /// File names without folder and extension, which is what attribute tables join on.
    pub names: Vec<String>,
    /// Images that could not be read and were left out.
    pub broken: usize,
    /// The last so many images are never trained on.
    pub validation: usize,
    /// `[image, 3, size, size]`.
    pixels: Vec<u8>,
}

/// What a loss is computed from, all drawn at random: images, noise, timesteps.
///
/// Images and noise are packed: a card is sent three eighths of what they are as floats, which it would else wait for.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Side of the images in pixels.
    size: usize,
    /// `[batch, 3, size, size]`, four values a word, the first one lowest; 0 is -1 and 255 is 1.
    images: Vec<i32>,
    /// The same shape, standard normal, two values a word, in multiples of 1 / [`NOISE_LEVELS`].
    noise: Vec<i32>,
    /// One an image.
    pub t: Vec<usize>,
}

/// How finely noise is packed: to 16 bits with a sign, so up to eight standard deviations.
const NOISE_LEVELS: f32 = 4096.0;

impl Divide for Batch {
    fn divide(self, sizes: &[usize]) -> Vec<Self> {
        let words = |all: &[i32]| all.len() / self.t.len().max(1);
        let (images, noise) = (words(&self.images), words(&self.noise));
        let mut first = 0;
        let mut part = |count: &usize| {
            let range = first..first + count;
            first = range.end;
            let of = |words: &[i32], width: usize| words[range.start * width..range.end * width].to_vec();
            Self { size: self.size, images: of(&self.images, images), noise: of(&self.noise, noise), t: self.t[range.clone()].to_vec() }
        };
        sizes.iter().map(&mut part).collect()
    }
}

impl Batch {
    /// Images in [-1, 1] and noise (both `[batch, 3, size, size]`) on a device, and the timesteps.
    pub fn upload(self, device: &Device) -> (Tensor<4>, Tensor<4>, Vec<usize>) {
        let shape = [self.t.len(), 3, self.size, self.size];
        // A processor unpacks faster than its tensors do.
        let (images, noise) = if device.clone().inner() == Device::flex() {
            let values = |values: Vec<f32>| Tensor::from_data(TensorData::new(values, shape), device);
            let bytes = self.images.iter().flat_map(|word| word.to_le_bytes()).map(|v| f32::from(v) / 127.5 - 1.0);
            let halves = self.noise.iter().flat_map(|word| [*word as i16, (word >> 16) as i16]).map(|v| f32::from(v) / NOISE_LEVELS);
            (values(bytes.collect()), values(halves.collect()))
        } else {
            let unpacked = |words: Vec<i32>, bits: usize, signed: bool| {
                let words = Tensor::<1, Int>::from_data(TensorData::from(&words[..]), device);
                let value = |i: usize| {
                    // A shift to the right keeps the sign.
                    let high = words
                        .clone()
                        .bitwise_left_shift_scalar((32 - bits * (i + 1)) as i32)
                        .bitwise_right_shift_scalar((32 - bits) as i32);
                    if signed { high } else { high.bitwise_and_scalar((1 << bits) - 1) }.float()
                };
                Tensor::stack::<2>((0..32 / bits).map(value).collect(), 1).reshape(shape)
            };
            (unpacked(self.images, 8, false) / 127.5 - 1.0, unpacked(self.noise, 16, true) / NOISE_LEVELS)
        };
        (images, noise, self.t)
    }
}

/// Makes the batch of a step. Threads call it ahead of the device, so a batch depends on the step alone.
pub type BatchSource<B> = Arc<dyn Fn(u64) -> B + Send + Sync>;

/// An undecoded image file.
struct Blob {
    name: String,
    source: Source,
}

enum Source {
    File(PathBuf),
    Bytes(Vec<u8>),
}

impl ImageSet {
    /// Reads a folder (and its subfolders) or a tar of images; other files in it are ignored.
    ///
    /// Each image is turned upright, cropped to its central square and resized to `size`. The last `validation` are held back.
    pub fn load(path: &Path, size: usize, validation: usize) -> Result<Self, TrainError> {
        let set = Self::decoded(path, size, usize::MAX)?;
        if validation >= set.len() {
            return Err(TrainError::AllHeldBack { validation, images: set.len() });
        }
        Ok(Self { validation, ..set })
    }

    /// The last `count` images alone (or all, where there are fewer), without decoding the others: what [`ImageSet::load`] holds back.
    pub fn load_last(path: &Path, size: usize, count: usize) -> Result<Self, TrainError> {
        let set = Self::decoded(path, size, count)?;
        Ok(Self { validation: set.len(), ..set })
    }

    fn decoded(path: &Path, size: usize, last: usize) -> Result<Self, TrainError> {
        let mut blobs = Vec::new();
        if path.is_dir() {
            list_folder(path, 0, &mut blobs)?;
        } else if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("tar")) {
            list_tar(path, &mut blobs)?;
        } else {
            return Err(TrainError::NotImages { path: path.into() });
        }
        blobs.sort_by(|a, b| a.name.cmp(&b.name));
        blobs.drain(..blobs.len().saturating_sub(last));
        let decoded = decode_all(&blobs, size);
        let broken = decoded.iter().filter(|image| image.is_none()).count();
        let mut names = Vec::with_capacity(blobs.len());
        let mut pixels = Vec::with_capacity((blobs.len() - broken) * 3 * size * size);
        for (blob, image) in blobs.iter().zip(decoded) {
            let Some(planes) = image else { continue };
            names.push(stem(&blob.name));
            pixels.extend_from_slice(&planes);
        }
        if broken > 0 {
            log::warn!("{broken} of {} images in {} could not be read and are left out", blobs.len(), path.display());
        }
        if names.is_empty() {
            return Err(TrainError::Empty { path: path.into(), broken });
        }
        Ok(Self { size, names, broken, validation: 0, pixels })
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Number of images that may be trained on: the first ones.
    pub fn training(&self) -> usize {
        self.len() - self.validation
    }

    /// Chosen images as `[count, 3, size, size]` in [-1, 1].
    pub fn images(&self, indices: &[usize], device: &Device) -> Tensor<4> {
        let mut values = Vec::with_capacity(indices.len() * 3 * self.size * self.size);
        for &index in indices {
            self.push_image(&mut values, index, false);
        }
        Tensor::from_data(TensorData::new(values, [indices.len(), 3, self.size, self.size]), device)
    }

    pub(super) fn push_image(&self, values: &mut Vec<f32>, index: usize, flip: bool) {
        let stride = 3 * self.size * self.size;
        let unit = |v: &u8| f32::from(*v) / 127.5 - 1.0;
        for row in self.pixels[index * stride..(index + 1) * stride].chunks_exact(self.size) {
            if flip {
                values.extend(row.iter().rev().map(unit));
            } else {
                values.extend(row.iter().map(unit));
            }
        }
    }

    /// The batch of one step: training images with replacement, half of them mirrored; `t` uniform in `0..timesteps`.
    ///
    /// It depends on `seed` and `step` alone, so a resumed run sees what an uninterrupted one would have seen.
    pub fn draw(&self, seed: u64, step: u64, batch: usize, timesteps: usize) -> Batch {
        let mut rng = StdRng::seed_from_u64(step_seed(seed, step));
        let stride = 3 * self.size * self.size;
        let mut bytes = Vec::with_capacity(batch * stride);
        for _ in 0..batch {
            let index = rng.random_range(0..self.training());
            let rows = self.pixels[index * stride..(index + 1) * stride].chunks_exact(self.size);
            if rng.random_bool(0.5) {
                rows.for_each(|row| bytes.extend(row.iter().rev()));
            } else {
                rows.for_each(|row| bytes.extend_from_slice(row));
            }
        }
        // Sides are multiples of 32, so that words are always full.
        let images = bytes.as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect();
        let t = (0..batch).map(|_| rng.random_range(0..timesteps)).collect();
        // Rounded by a shift to positive numbers and a cut: a call to round takes as long as drawing the number.
        let mut level = || {
            let value: f32 = rng.sample(StandardNormal);
            ((value * NOISE_LEVELS + 32768.5) as u16).wrapping_sub(1 << 15)
        };
        let noise = (0..batch * stride / 2).map(|_| (u32::from(level()) | u32::from(level()) << 16) as i32).collect();
        Batch { size: self.size, images, noise, t }
    }
}

/// Neighbouring seeds and steps must not share a generator (SplitMix64's finaliser).
pub(super) fn step_seed(seed: u64, step: u64) -> u64 {
    let mut z = seed.wrapping_add(step.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Standard normal noise of a shape, the same on every device.
pub fn fixed_noise<const D: usize>(seed: u64, shape: [usize; D], device: &Device) -> Tensor<D> {
    let values: Vec<f32> = StdRng::seed_from_u64(seed).sample_iter(StandardNormal).take(shape.iter().product()).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Prepares the batches of consecutive steps on threads of its own, a few steps ahead.
///
/// Worker `k` of `n` makes every `n`-th batch, so the order does not depend on who is faster.
pub struct Loader<B> {
    queues: Vec<Receiver<B>>,
    next: usize,
}

impl<B: Send + 'static> Loader<B> {
    pub fn start(source: &BatchSource<B>, first_step: u64) -> Result<Self, TrainError> {
        let workers = std::thread::available_parallelism().map_or(1, usize::from).div_ceil(2).min(MAX_LOADERS);
        let mut queues = Vec::with_capacity(workers);
        for worker in 0..workers {
            let (sender, receiver) = bounded(1);
            let source = source.clone();
            std::thread::Builder::new()
                .name(format!("loader-{worker}"))
                .spawn(move || {
                    let steps = (first_step + worker as u64..).step_by(workers);
                    // Sending fails once the loader has been dropped, which is how the threads end.
                    for step in steps {
                        if sender.send(source(step)).is_err() {
                            return;
                        }
                    }
                })
                .map_err(TrainError::io("start a thread for", "the data set"))?;
            queues.push(receiver);
        }
        Ok(Self { queues, next: 0 })
    }

    /// The next step's batch; `None` if a worker died.
    pub fn next_batch(&mut self) -> Option<B> {
        let batch = self.queues[self.next].recv().ok();
        self.next = (self.next + 1) % self.queues.len();
        batch
    }
}

fn is_image(path: &Path) -> bool {
    ImageFormat::from_path(path).is_ok()
}

fn stem(name: &str) -> String {
    Path::new(name).file_stem().map_or_else(|| name.to_owned(), |s| s.to_string_lossy().into_owned())
}

fn list_folder(folder: &Path, depth: usize, blobs: &mut Vec<Blob>) -> Result<(), TrainError> {
    for entry in std::fs::read_dir(folder).map_err(TrainError::io("open the folder", folder))? {
        let path = entry.map_err(TrainError::io("read the folder", folder))?.path();
        if path.is_dir() {
            if depth < MAX_DEPTH {
                list_folder(&path, depth + 1, blobs)?;
            }
        } else if is_image(&path) {
            blobs.push(Blob { name: path.to_string_lossy().into_owned(), source: Source::File(path) });
        }
    }
    Ok(())
}

fn list_tar(path: &Path, blobs: &mut Vec<Blob>) -> Result<(), TrainError> {
    let failed = |e| TrainError::io("read", path)(e);
    let mut archive = tar::Archive::new(std::io::BufReader::new(std::fs::File::open(path).map_err(TrainError::io("open", path))?));
    for entry in archive.entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        let name = entry.path().map_err(failed)?.into_owned();
        if !entry.header().entry_type().is_file() || !is_image(&name) {
            continue;
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(failed)?;
        blobs.push(Blob { name: name.to_string_lossy().into_owned(), source: Source::Bytes(bytes) });
    }
    Ok(())
}

/// Decodes on all cores; `None` where a file is damaged.
fn decode_all(blobs: &[Blob], size: usize) -> Vec<Option<Vec<u8>>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let mut decoded: Vec<Option<Vec<u8>>> = Vec::new();
    decoded.resize_with(blobs.len(), || None);
    std::thread::scope(|scope| {
        let worker = || {
            let mut done = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(blob) = blobs.get(index) else { return done };
                done.push((index, decode(blob, size)));
            }
        };
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        for (index, image) in handles.into_iter().flat_map(|handle| handle.join().unwrap_or_default()) {
            decoded[index] = image;
        }
    });
    decoded
}

fn decode(blob: &Blob, size: usize) -> Option<Vec<u8>> {
    // A damaged file may trip a decoder in any way at all; it must cost one image and not the run.
    let result = catch_unwind(|| -> Result<RgbImage, String> {
        let file;
        let bytes = match &blob.source {
            Source::Bytes(bytes) => bytes,
            Source::File(path) => {
                file = std::fs::read(path).map_err(|e| e.to_string())?;
                &file
            }
        };
        upright(bytes).map_err(|e| e.to_string())
    });
    match result {
        Ok(Ok(image)) if image.width() > 0 && image.height() > 0 => Some(planes(&square(&image, size as u32))),
        Ok(Ok(_)) | Err(_) => None,
        Ok(Err(reason)) => {
            log::warn!("{} is left out: {reason}", blob.name);
            None
        }
    }
}

fn upright(bytes: &[u8]) -> image::ImageResult<RgbImage> {
    let mut decoder = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?.into_decoder()?;
    let orientation = decoder.orientation()?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok(image.into_rgb8())
}

/// The central square at `size` pixels: plain averages where the sides divide, a triangle filter as wide as the ratio elsewhere.
pub fn square(image: &RgbImage, size: u32) -> RgbImage {
    let side = image.width().min(image.height());
    let (x, y) = ((image.width() - side) / 2, (image.height() - side) / 2);
    let cropped = imageops::crop_imm(image, x, y, side, side).to_image();
    if side == size {
        cropped
    } else if side.is_multiple_of(size) {
        imageops::thumbnail(&cropped, size, size)
    } else {
        imageops::resize(&cropped, size, size, FilterType::Triangle)
    }
}

/// Interleaved pixels as three planes.
fn planes(image: &RgbImage) -> Vec<u8> {
    (0..3).flat_map(|channel| image.as_raw().iter().skip(channel).step_by(3).copied()).collect()
}

/// Yes-or-no labels of images, by file name without its extension.
#[derive(Debug, Clone, PartialEq)]
pub struct AttributeTable {
    /// Column names, which become the sliders' names.
    pub names: Vec<String>,
    rows: HashMap<String, Vec<bool>>,
}

impl AttributeTable {
    /// Reads a CSV with a column `image` and columns of 1 and 0 (or 1 and -1).
    pub fn load(path: &Path) -> Result<Self, TrainError> {
        let wrong = |reason: String| TrainError::Attributes { path: path.into(), reason };
        let mut reader = csv::Reader::from_path(path).map_err(|e| wrong(format!("could not be read ({e})")))?;
        let header = reader.headers().map_err(|e| wrong(format!("is not a CSV table ({e})")))?.clone();
        let key = header.iter().position(|name| name.trim() == "image").ok_or_else(|| wrong("has no column called image".into()))?;
        let names: Vec<String> = header.iter().enumerate().filter(|(i, _)| *i != key).map(|(_, name)| name.trim().to_owned()).collect();
        if names.is_empty() {
            return Err(wrong("has no column beside image".into()));
        }
        let mut rows = HashMap::new();
        for record in reader.records() {
            let record = record.map_err(|e| wrong(e.to_string()))?;
            let image = record.get(key).unwrap_or_default().trim();
            let labels = record.iter().enumerate().filter(|(i, _)| *i != key).map(|(i, cell)| {
                label(cell)
                    .ok_or_else(|| wrong(format!("{:?} of image {image} is {cell:?}, not 1, 0 or -1", header.get(i).unwrap_or_default())))
            });
            rows.insert(stem(image), labels.collect::<Result<Vec<bool>, _>>()?);
        }
        Ok(Self { names, rows })
    }

    /// The labels of an image, in the order of [`AttributeTable::names`].
    pub fn row(&self, image: &str) -> Option<&[bool]> {
        self.rows.get(image).map(Vec::as_slice)
    }
}

fn label(cell: &str) -> Option<bool> {
    match cell.trim() {
        "1" | "1.0" => Some(true),
        "0" | "0.0" | "-1" | "-1.0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DeviceChoice;

    #[test]
    fn a_card_unpacks_what_a_processor_does() {
        let Ok(card) = DeviceChoice::Gpu.open() else {
            println!("SKIPPED a_card_unpacks_what_a_processor_does: wgpu finds no adapter on this machine");
            return;
        };
        // Every byte, and the ends of what noise can be.
        let images: Vec<i32> =
            (0..=255u8).cycle().step_by(7).take(768).collect::<Vec<_>>().as_chunks().0.iter().map(|b| i32::from_le_bytes(*b)).collect();
        let noise: Vec<i32> = [0, -1, i32::MAX, i32::MIN].into_iter().chain((4..384).map(|i: i32| i.wrapping_mul(0x0535_8a3d))).collect();
        let batch = Batch { size: 16, images, noise, t: vec![5] };
        let [here, there] = [Device::flex(), card.device].map(|device| {
            let (x_0, noise, _) = batch.clone().upload(&device);
            [x_0, noise].map(|x| x.into_data().try_to_vec::<f32>().expect("32-bit floats"))
        });
        for (here, there) in here.iter().zip(&there) {
            assert_eq!(here.len(), there.len());
            assert!(here.iter().zip(there).all(|(a, b)| (a - b).abs() <= 1e-6 * a.abs().max(1.0)), "{here:?}\n{there:?}");
        }
        assert!(here[0].contains(&-1.0) && here[0].contains(&1.0));
    }
}
