//! Sample grids: what a run looks like from outside.

use std::io::Cursor;
use std::path::Path;

use burn::tensor::Tensor;
use image::{ImageFormat, RgbImage};

use super::TrainError;
use crate::checkpoint::tensors::write_renamed;

/// Rows of images (`[batch, 3, size, size]` in [-1, 1], one row each) as one picture.
pub fn grid(rows: Vec<Tensor<4>>) -> RgbImage {
    let size = rows.first().map_or(0, |row| row.dims()[3]);
    let columns = rows.iter().map(|row| row.dims()[0]).max().unwrap_or(0);
    let mut picture = RgbImage::new((columns * size) as u32, (rows.len() * size) as u32);
    for (row, images) in rows.into_iter().enumerate() {
        let values = images.into_data().convert::<f32>().try_to_vec::<f32>().unwrap_or_default();
        for (column, planes) in values.chunks_exact(3 * size * size).enumerate() {
            for (i, red) in planes[..size * size].iter().enumerate() {
                let pixel = [*red, planes[size * size + i], planes[2 * size * size + i]].map(byte);
                let (x, y) = (column * size + i % size, row * size + i / size);
                picture.put_pixel(x as u32, y as u32, image::Rgb(pixel));
            }
        }
    }
    picture
}

/// A value in [-1, 1] as a byte.
fn byte(value: f32) -> u8 {
    ((value.clamp(-1.0, 1.0) + 1.0) * 127.5).round() as u8
}

/// Writes a PNG, complete or not at all.
pub fn save(picture: &RgbImage, path: &Path) -> Result<(), TrainError> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png).map_err(|e| TrainError::io("write", path)(std::io::Error::other(e)))?;
    Ok(write_renamed(path, bytes.get_ref())?)
}
