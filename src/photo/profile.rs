//! ICC profiles: what a photo's pixel values mean, and how they become sRGB and come back.

use std::fmt;
use std::sync::Arc;

use moxcms::{ColorProfile, DataColorSpace, Layout, TransformF32Executor, TransformOptions};

/// The colour space of a photo's RGB values. Values are in [0, 1] throughout.
#[derive(Clone)]
pub struct Profile {
    /// For files with colour.
    icc: Arc<[u8]>,
    /// The file's own profile where that is for grey values.
    grey_icc: Option<Arc<[u8]>>,
    /// `None`: the values are sRGB, to within half an 8-bit level.
    transforms: Option<Transforms>,
}

#[derive(Clone)]
struct Transforms {
    to_srgb: Arc<TransformF32Executor>,
    from_srgb: Arc<TransformF32Executor>,
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile").field("bytes", &self.icc.len()).field("is_srgb", &self.is_srgb()).finish()
    }
}

impl Profile {
    /// Reads an embedded profile. `grey`: whether the file's pixels are grey.
    ///
    /// `None` for one that says nothing about the RGB values in memory: damaged, for CMYK (the decoder has already converted those),
    /// or without a way back from sRGB. The photo is then taken as sRGB, as viewers do.
    pub fn read(icc: &[u8], grey: bool) -> Option<Self> {
        let profile = ColorProfile::new_from_slice(icc).inspect_err(|e| log::warn!("an ICC profile was ignored: {e:?}")).ok()?;
        let (profile, rgb_icc, grey_icc) = match profile.color_space {
            DataColorSpace::Rgb => (profile, icc.into(), None),
            DataColorSpace::Gray if grey => {
                let rgb = rgb_with_curve_of(&profile)?;
                let bytes = rgb.encode().ok()?;
                (rgb, bytes.into(), Some(icc.into()))
            }
            other => {
                log::warn!("an ICC profile for {other:?} was ignored: the pixels are not of that kind");
                return None;
            }
        };
        let transforms = Transforms::new(&profile).inspect_err(|e| log::warn!("an ICC profile was ignored: {e:?}")).ok()?;
        let transforms = if transforms.change_nothing() { None } else { Some(transforms) };
        Some(Self { icc: rgb_icc, grey_icc, transforms })
    }

    /// The profile to embed with RGB pixels.
    pub fn icc(&self) -> &[u8] {
        &self.icc
    }

    /// The profile to embed with grey pixels, if it is one for those.
    pub fn grey_icc(&self) -> Option<&[u8]> {
        self.grey_icc.as_deref()
    }

    pub fn is_srgb(&self) -> bool {
        self.transforms.is_none()
    }

    /// RGB triples in this colour space to sRGB, clipped to what sRGB can hold.
    pub fn to_srgb(&self, values: &[f32]) -> Vec<f32> {
        self.transforms.as_ref().map_or_else(|| values.to_vec(), |t| apply(&*t.to_srgb, values))
    }

    /// The inverse of [`Profile::to_srgb`].
    pub fn from_srgb(&self, values: &[f32]) -> Vec<f32> {
        self.transforms.as_ref().map_or_else(|| values.to_vec(), |t| apply(&*t.from_srgb, values))
    }
}

fn apply(transform: &TransformF32Executor, values: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; values.len()];
    // Lengths are equal and whole triples, which is all that can be wrong here.
    if transform.transform(values, &mut out).is_err() {
        out.copy_from_slice(values);
    }
    out
}

impl Transforms {
    fn new(profile: &ColorProfile) -> Result<Self, moxcms::CmsError> {
        let (srgb, options) = (ColorProfile::new_srgb(), TransformOptions::default());
        Ok(Self {
            to_srgb: profile.create_transform_f32(Layout::Rgb, &srgb, Layout::Rgb, options)?,
            from_srgb: srgb.create_transform_f32(Layout::Rgb, profile, Layout::Rgb, options)?,
        })
    }

    /// Whether colours all over the cube stay within half an 8-bit level.
    fn change_nothing(&self) -> bool {
        let levels = 0..=8;
        let cube: Vec<f32> = levels
            .clone()
            .flat_map(|r| levels.clone().flat_map(move |g| (0..=8).flat_map(move |b| [r, g, b])))
            .map(|level| level as f32 / 8.0)
            .collect();
        apply(&*self.to_srgb, &cube).iter().zip(&cube).all(|(a, b)| (a - b).abs() < 0.5 / 255.0)
    }
}

/// The RGB profile whose greys are those of a grey profile: its curve with the primaries of sRGB.
fn rgb_with_curve_of(grey: &ColorProfile) -> Option<ColorProfile> {
    let curve = grey.gray_trc.clone()?;
    let mut rgb = ColorProfile::new_srgb();
    rgb.cicp = None;
    (rgb.red_trc, rgb.green_trc, rgb.blue_trc) = (Some(curve.clone()), Some(curve.clone()), Some(curve));
    Some(rgb)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(profile: &ColorProfile, grey: bool) -> Profile {
        Profile::read(&profile.encode().unwrap(), grey).unwrap()
    }

    #[test]
    fn srgb_is_recognised_and_others_are_not() {
        assert!(read(&ColorProfile::new_srgb(), false).is_srgb());
        assert!(!read(&ColorProfile::new_display_p3(), false).is_srgb());
        assert!(!read(&ColorProfile::new_adobe_rgb(), false).is_srgb());
    }

    #[test]
    fn colours_come_back() {
        let profile = read(&ColorProfile::new_display_p3(), false);
        // Muted colours, which sRGB holds too.
        let values = [0.5, 0.4, 0.35, 0.8, 0.75, 0.7, 0.2, 0.2, 0.2];
        let back = profile.from_srgb(&profile.to_srgb(&values));
        assert!(back.iter().zip(values).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-3), "{back:?}");
    }

    #[test]
    fn the_red_of_display_p3_is_beyond_srgb() {
        let red = read(&ColorProfile::new_display_p3(), false).to_srgb(&[0.5, 0.1, 0.1]);
        assert!(red[0] > 0.52, "P3 reds are stronger than the same numbers in sRGB: {red:?}");
    }

    #[test]
    fn a_grey_profile_becomes_a_neutral_rgb_one() {
        let profile = read(&ColorProfile::new_gray_with_gamma(1.0), true);
        let srgb = profile.to_srgb(&[0.2, 0.2, 0.2]);
        // Linear 0.2 is 0.4845 in sRGB.
        assert!(srgb.iter().all(|v| (v - 0.4845).abs() < 0.01), "{srgb:?}");
        assert!(profile.grey_icc().is_some());
        assert!(Profile::read(&ColorProfile::new_gray_with_gamma(1.8).encode().unwrap(), false).is_none(), "not for colour pixels");
    }

    #[test]
    fn rubbish_is_no_profile() {
        assert!(Profile::read(b"rubbish", false).is_none());
        let mut damaged = ColorProfile::new_display_p3().encode().unwrap();
        damaged.truncate(200);
        // Whatever it makes of that, it does not panic.
        let _ = Profile::read(&damaged, false);
    }
}
