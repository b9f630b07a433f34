//! Group norms in training on a graphics card, forwards and backwards, with what follows them: a map of the channels and SiLU.

// The kernel compiler's macro makes functions of more arguments than it is given.
#![allow(clippy::too_many_arguments)]

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::surface::{Surface, extent, values};
use super::training::{COLUMNS, ROWS, of_column};
use crate::model::layers::GROUPS;

/// Channels of a map that a unit reads at once.
const ABREAST: u32 = 4;

type Abreast = Vector<f32, Const<{ ABREAST as usize }>>;

/// How a cube's units share neighbouring groups of one image. A line of units reads a position's channels, [`ABREAST`] each; a unit keeps to
/// its channels, and its next position is `lines` further on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Layout {
    per_group: u32,
    groups: u32,
    lines: u32,
}

impl Layout {
    /// Units of a line.
    fn across(self) -> u32 {
        self.per_group * self.groups / ABREAST
    }

    fn units(self) -> u32 {
        self.across() * self.lines
    }

    /// Vectors of all channels.
    fn of_image(self) -> u32 {
        self.per_group * GROUPS as u32 / ABREAST
    }
}

/// Group norm over 32 groups, epsilon 1e-5, then `x * scale + shift` (`affine`: all images' scales, `[image, channel]`, then their shifts)
/// and if so asked SiLU. The groups are along x, several a cube, images along y.
#[cube(launch)]
fn normalise(
    x: &[Abreast],
    affine: &[Abreast],
    y: &mut [Abreast],
    images: u32,
    positions: u32,
    #[comptime] layout: Layout,
    #[comptime] silu: bool,
) {
    let mut lines = Shared::<[Abreast]>::new_slice(comptime!(layout.units() as usize));
    let mut channels = Shared::<[f32]>::new_slice(comptime!((layout.across() * ABREAST) as usize));
    let (own, base) = place(positions, layout);
    let moments = moments(x, &mut lines, &mut channels, base, positions, layout);
    let (mean, rest, inverse) = (moments[0usize], moments[1usize], moments[2usize]);
    let (factor, offset) = (affine[own], affine[own + (images * comptime!(layout.of_image())) as usize]);
    let mut row = UNIT_POS / comptime!(layout.across());
    while row < positions {
        let at = (base + row * comptime!(layout.of_image())) as usize;
        let mut value = (x[at] - mean - rest) * inverse * factor + offset;
        if silu {
            value /= Abreast::new(1.0f32) + (-value).exp();
        }
        y[at] = value;
        row += comptime!(layout.lines);
    }
}

/// Where a unit's channels are: among those of which every image has one, and in its image's first position.
#[cube]
fn place(positions: u32, #[comptime] layout: Layout) -> (usize, u32) {
    let of_image = comptime!(layout.of_image());
    let channel = CUBE_POS_X * comptime!(layout.across()) + UNIT_POS % comptime!(layout.across());
    ((CUBE_POS_Y * of_image + channel) as usize, CUBE_POS_Y * positions * of_image + channel)
}

/// The sums of what all units of the same channels have, for all of them.
#[cube]
fn of_lines(lines: &mut Shared<[Abreast]>, value: Abreast, #[comptime] layout: Layout) -> Abreast {
    let across = comptime!(layout.across());
    let line = UNIT_POS / across;
    let unit = UNIT_POS as usize;
    lines[unit] = value;
    sync_cube();
    let mut left = comptime!(layout.lines).runtime();
    while left > 1u32 {
        let half = left.div_ceil(2u32);
        if line + half < left {
            let other = lines[(UNIT_POS + half * across) as usize];
            lines[unit] += other;
        }
        sync_cube();
        left = half;
    }
    let sum = lines[(UNIT_POS % across) as usize];
    sync_cube();
    sum
}

/// The sums over the channels of a group, for each of its channels. All units of the same channels have the same value.
#[cube]
fn of_groups(channels: &mut Shared<[f32]>, value: Abreast, #[comptime] layout: Layout) -> Abreast {
    let across = comptime!(layout.across());
    let first = UNIT_POS % across * ABREAST;
    if UNIT_POS < across {
        #[unroll]
        for i in 0..ABREAST {
            channels[(first + i) as usize] = value.extract(comptime!(i as usize));
        }
    }
    sync_cube();
    let mut sums = Abreast::new(0.0f32);
    if comptime!(layout.per_group.is_multiple_of(ABREAST)) {
        sums = Abreast::new(of_group(channels, first, layout));
    } else {
        #[unroll]
        for i in 0..ABREAST {
            sums.insert(comptime!(i as usize), of_group(channels, first + i, layout));
        }
    }
    sync_cube();
    sums
}

/// The sum over the group that a channel is in.
#[cube]
fn of_group(channels: &mut Shared<[f32]>, channel: u32, #[comptime] layout: Layout) -> f32 {
    let per_group = comptime!(layout.per_group);
    let first = channel / per_group * per_group;
    let mut sum = 0.0f32;
    for i in 0..per_group {
        sum += channels[(first + i) as usize];
    }
    sum
}

/// The mean of a channel's group, nearly, what is missing from it, and the inverse standard deviation: values far from zero would lose by a
/// mean in single precision.
///
/// The first is the mean of one position of each unit, from all over the map. Whatever the values are, it is no further from the mean than
/// the deviation times the root of how many positions a unit has, so that little is lost by the squares' being about it, and one pass is
/// enough.
#[cube]
fn moments(
    x: &[Abreast],
    lines: &mut Shared<[Abreast]>,
    channels: &mut Shared<[f32]>,
    base: u32,
    positions: u32,
    #[comptime] layout: Layout,
) -> Array<Abreast> {
    let line = UNIT_POS / comptime!(layout.across());
    let sample = x[(base + line * positions / comptime!(layout.lines) * comptime!(layout.of_image())) as usize];
    let sample = of_groups(channels, of_lines(lines, sample, layout), layout);
    let mean = sample / Abreast::new(comptime!((layout.lines * layout.per_group) as f32));
    let mut rest = Abreast::new(0.0f32);
    let mut squares = Abreast::new(0.0f32);
    let mut row = line;
    while row < positions {
        let centred = x[(base + row * comptime!(layout.of_image())) as usize] - mean;
        rest += centred;
        squares += centred * centred;
        row += comptime!(layout.lines);
    }
    let count = Abreast::new(f32::cast_from(positions * comptime!(layout.per_group)));
    let rest = of_groups(channels, of_lines(lines, rest, layout), layout) / count;
    let variance = of_groups(channels, of_lines(lines, squares, layout), layout) / count - rest * rest;
    let variance = max(variance, Abreast::new(0.0f32));
    let mut moments = Array::<Abreast>::new(3usize);
    moments[0usize] = mean;
    moments[1usize] = rest;
    moments[2usize] = Abreast::new(1.0f32) / (variance + Abreast::new(1e-5f32)).sqrt();
    moments
}

/// The gradient by what SiLU was applied to, if it was.
#[cube]
fn before_silu(gradient: Abreast, value: Abreast, #[comptime] silu: bool) -> Abreast {
    let mut result = gradient;
    if silu {
        let one = Abreast::new(1.0f32);
        let sigmoid = one / (one + (-value).exp());
        result = gradient * sigmoid * (one + value * (one - sigmoid));
    }
    result
}

/// The gradients of [`normalise`] by `x` and `affine`.
#[cube(launch)]
fn normalise_back(
    x: &[Abreast],
    affine: &[Abreast],
    gradient: &[Abreast],
    by_x: &mut [Abreast],
    by_affine: &mut [Abreast],
    images: u32,
    positions: u32,
    #[comptime] layout: Layout,
    #[comptime] silu: bool,
) {
    let mut lines = Shared::<[Abreast]>::new_slice(comptime!(layout.units() as usize));
    let mut channels = Shared::<[f32]>::new_slice(comptime!((layout.across() * ABREAST) as usize));
    let (own, base) = place(positions, layout);
    let moments = moments(x, &mut lines, &mut channels, base, positions, layout);
    let (mean, rest, inverse) = (moments[0usize], moments[1usize], moments[2usize]);
    let shifts = own + (images * comptime!(layout.of_image())) as usize;
    let (factor, offset) = (affine[own], affine[shifts]);
    let line = UNIT_POS / comptime!(layout.across());

    let mut sum = Abreast::new(0.0f32);
    let mut product = Abreast::new(0.0f32);
    let mut row = line;
    while row < positions {
        let at = (base + row * comptime!(layout.of_image())) as usize;
        let value = (x[at] - mean - rest) * inverse;
        let inner = before_silu(gradient[at], value * factor + offset, silu);
        sum += inner;
        product += inner * value;
        row += comptime!(layout.lines);
    }
    let sum = of_lines(&mut lines, sum, layout);
    let product = of_lines(&mut lines, product, layout);
    if line == 0 {
        by_affine[own] = product;
        by_affine[shifts] = sum;
    }

    // Mean and deviation hang on all of the group's values: what their gradients hang on in turn are these two means.
    let count = Abreast::new(f32::cast_from(positions * comptime!(layout.per_group)));
    let level = of_groups(&mut channels, factor * sum, layout) / count;
    let slope = of_groups(&mut channels, factor * product, layout) / count;

    let mut row = line;
    while row < positions {
        let at = (base + row * comptime!(layout.of_image())) as usize;
        let value = (x[at] - mean - rest) * inverse;
        let inner = before_silu(gradient[at], value * factor + offset, silu);
        by_x[at] = inverse * (inner * factor - level - value * slope);
        row += comptime!(layout.lines);
    }
}

/// The map of a norm's channels for every image, as [`normalise`] takes it: the norm's own (`[channel]`), and if it is `modulated` that of
/// the image on top, `x * (1 + scale) + shift` (`[image, 2 * channel]`).
#[cube(launch)]
fn affine(gain: &[f32], offset: &[f32], modulation: &[f32], affine: &mut [f32], images: u32, channels: u32, #[comptime] modulated: bool) {
    let at = ABSOLUTE_POS as u32;
    if at < images * channels {
        let channel = at % channels;
        let mut scale = gain[channel as usize];
        let mut shift = offset[channel as usize];
        if modulated {
            let first = at / channels * 2 * channels + channel;
            let factor = 1.0f32 + modulation[first as usize];
            scale *= factor;
            shift = shift * factor + modulation[(first + channels) as usize];
        }
        affine[ABSOLUTE_POS] = scale;
        affine[(images * channels + at) as usize] = shift;
    }
}

/// The gradients of [`affine`]. A cube has [`COLUMNS`] channels of all images.
#[cube(launch)]
fn affine_back(
    gain: &[f32],
    offset: &[f32],
    modulation: &[f32],
    gradient: &[f32],
    by_gain: &mut [f32],
    by_offset: &mut [f32],
    by_modulation: &mut [f32],
    images: u32,
    channels: u32,
    #[comptime] modulated: bool,
) {
    let units = comptime!((COLUMNS * ROWS) as usize);
    let mut gains = Shared::<[f32]>::new_slice(units);
    let mut offsets = Shared::<[f32]>::new_slice(units);
    let channel = CUBE_POS_X * COLUMNS + UNIT_POS % COLUMNS;
    let mut by_own_gain = 0.0f32;
    let mut by_own_offset = 0.0f32;
    let mut image = UNIT_POS / COLUMNS;
    while image < images {
        let by_scale = gradient[(image * channels + channel) as usize];
        let by_shift = gradient[((images + image) * channels + channel) as usize];
        let mut factor = 1.0f32;
        if modulated {
            let first = image * 2 * channels + channel;
            factor += modulation[first as usize];
            by_modulation[first as usize] = gain[channel as usize] * by_scale + offset[channel as usize] * by_shift;
            by_modulation[(first + channels) as usize] = by_shift;
        }
        by_own_gain += factor * by_scale;
        by_own_offset += factor * by_shift;
        image += ROWS;
    }
    gains[UNIT_POS as usize] = by_own_gain;
    offsets[UNIT_POS as usize] = by_own_offset;
    sync_cube();
    if UNIT_POS < COLUMNS {
        by_gain[channel as usize] = of_column(&gains);
        by_offset[channel as usize] = of_column(&offsets);
    }
}

impl Surface {
    /// A norm's own `gain` and `offset` (`[channel]`) for every image, with its modulation on top if there is one: `[2, image, channel]`.
    pub fn affine(&self, gain: CubeTensor, offset: CubeTensor, modulation: Option<CubeTensor>, images: usize) -> CubeTensor {
        let [gain, offset] = [gain, offset].map(into_contiguous);
        let (modulation, channels) = (modulation.map(into_contiguous), values(&gain));
        let map = self.empty(&[2, images, channels], DType::F32);
        let (count, dim) = self.for_each(images * channels);
        affine::launch(
            &self.client,
            count,
            dim,
            gain.clone().into_buffer_arg(),
            offset.into_buffer_arg(),
            modulation.as_ref().unwrap_or(&gain).clone().into_buffer_arg(),
            map.clone().into_buffer_arg(),
            images as u32,
            channels as u32,
            modulation.is_some(),
        );
        map
    }

    /// The gradients by gains, offsets and, if there is one, the modulation.
    pub fn affine_back(
        &self,
        gain: CubeTensor,
        offset: CubeTensor,
        modulation: Option<CubeTensor>,
        gradient: CubeTensor,
    ) -> [CubeTensor; 3] {
        let [gain, offset, gradient] = [gain, offset, gradient].map(into_contiguous);
        let modulation = modulation.map(into_contiguous);
        let (images, channels) = (gradient.meta.shape()[1], values(&gain));
        debug_assert!(channels.is_multiple_of(COLUMNS as usize));
        let like = |tensor: &CubeTensor| self.empty(tensor.meta.shape(), DType::F32);
        let found = [like(&gain), like(&offset), modulation.as_ref().map_or_else(|| self.empty(&[1], DType::F32), like)];
        let [by_gain, by_offset, by_modulation] = found.clone();
        affine_back::launch(
            &self.client,
            CubeCount::Static(channels as u32 / COLUMNS, 1, 1),
            CubeDim::new_1d(COLUMNS * ROWS),
            gain.clone().into_buffer_arg(),
            offset.into_buffer_arg(),
            modulation.as_ref().unwrap_or(&gain).clone().into_buffer_arg(),
            gradient.into_buffer_arg(),
            by_gain.into_buffer_arg(),
            by_offset.into_buffer_arg(),
            by_modulation.into_buffer_arg(),
            images as u32,
            channels as u32,
            modulation.is_some(),
        );
        found
    }

    /// `x`, `[batch, height, width, channel]`, normalised, then scaled and shifted by `affine`, `[2, batch, channel]`.
    pub fn normalised(&self, x: &CubeTensor, affine: &CubeTensor, silu: bool) -> CubeTensor {
        let (batch, positions, channels) = extent(x);
        let y = self.empty(x.meta.shape(), DType::F32);
        let layout = self.layout(batch, positions, channels);
        normalise::launch(
            &self.client,
            CubeCount::Static(GROUPS as u32 / layout.groups, batch as u32, 1),
            CubeDim::new_1d(layout.units()),
            x.clone().into_buffer_arg(),
            affine.clone().into_buffer_arg(),
            y.clone().into_buffer_arg(),
            batch as u32,
            positions as u32,
            layout,
            silu,
        );
        y
    }

    /// The gradients by `x` and `affine`.
    pub fn normalised_back(&self, x: &CubeTensor, affine: &CubeTensor, gradient: &CubeTensor, silu: bool) -> (CubeTensor, CubeTensor) {
        let (batch, positions, channels) = extent(x);
        let [by_x, by_affine] = [x, affine].map(|like| self.empty(like.meta.shape(), DType::F32));
        let layout = self.layout(batch, positions, channels);
        normalise_back::launch(
            &self.client,
            CubeCount::Static(GROUPS as u32 / layout.groups, batch as u32, 1),
            CubeDim::new_1d(layout.units()),
            x.clone().into_buffer_arg(),
            affine.clone().into_buffer_arg(),
            gradient.clone().into_buffer_arg(),
            by_x.clone().into_buffer_arg(),
            by_affine.clone().into_buffer_arg(),
            batch as u32,
            positions as u32,
            layout,
            silu,
        );
        (by_x, by_affine)
    }

    /// How a map is normalised. A line of 32 channels is plenty to read in one go, and of 8 enough: that is how far a small batch is divided
    /// between more cubes, of more units, for there to be work for a whole card.
    fn layout(&self, batch: usize, positions: usize, channels: usize) -> Layout {
        const CUBES: usize = 512;
        let per_group = channels / GROUPS;
        let mut groups = GROUPS;
        while groups > 1 && (groups / 2 * per_group).is_multiple_of(ABREAST as usize) {
            let (cubes, width) = (batch * GROUPS / groups, groups * per_group);
            if width <= 8 || width <= 32 && cubes >= CUBES {
                break;
            }
            groups /= 2;
        }
        let hardware = &self.client.properties().hardware;
        let most = hardware.max_units_per_cube.min(hardware.max_cube_dim.0) as usize;
        let units = if batch * GROUPS / groups < CUBES { 512 } else { 256 }.min(most);
        let across = groups * per_group / ABREAST as usize;
        let lines = (units / across).clamp(1, positions);
        Layout { per_group: per_group as u32, groups: groups as u32, lines: lines as u32 }
    }
}
