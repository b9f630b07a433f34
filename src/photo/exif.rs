//! EXIF blocks: made to describe the upright picture, taken out of TIFF files, written into them.
//!
//! A block is changed in place wherever possible: makers' notes hold offsets that a re-written block would break.

use std::io::{Cursor, Seek, Write};
use std::ops::Deref;

use exif::{Context, Field, In, Tag, Value};
use tiff::encoder::{DirectoryEncoder, TiffKind};
use tiff::tags::Type;

const ORIENTATION: u16 = 0x0112;
const EXIF_DIRECTORY: u16 = 0x8769;
const GPS_DIRECTORY: u16 = 0x8825;
const INTEROPERABILITY_DIRECTORY: u16 = 0xa005;
const PIXEL_X_DIMENSION: u16 = 0xa002;
const PIXEL_Y_DIMENSION: u16 = 0xa003;
const THUMBNAIL_OFFSET: u16 = 0x0201;
const THUMBNAIL_LENGTH: u16 = 0x0202;
const STRIP_OFFSETS: u16 = 0x0111;
const STRIP_LENGTHS: u16 = 0x0117;

const XMP: u16 = 700;
const ICC_PROFILE: u16 = 34675;

const SHORT: u16 = 3;
const LONG: u16 = 4;

/// Bytes that one value takes in memory, by its kind. Every byte of a text may be a text of its own.
const VALUE_BYTES: [usize; 13] = [0, 1, size_of::<Vec<u8>>(), 2, 4, 8, 1, 1, 2, 4, 8, 4, 8];
/// Bytes of an entry beside its values.
const FIELD_BYTES: usize = size_of::<Field>();
/// Directories that are read of a chain, which may be a ring.
const MAX_DIRECTORIES: usize = 8;
/// Bytes that metadata may take in memory at least, in however small a file.
const LEAST_BUDGET: usize = 64 << 20;

/// What a TIFF's first directory says about the picture rather than about how its pixels are stored: description, make, model,
/// resolution, software, date, artist, host, rating, copyright, and Windows' title, comment, author, keywords and subject.
const DESCRIPTIVE: [u16; 18] = [270, 271, 272, 282, 283, 296, 305, 306, 315, 316, 18246, 18249, 33432, 40091, 40092, 40093, 40094, 40095];

/// A block of EXIF, from its TIFF header on.
struct Block<B> {
    bytes: B,
    big_endian: bool,
}

/// One entry of a directory: where its 4-byte value field is, and what is in it.
struct Entry {
    tag: u16,
    kind: u16,
    value_at: usize,
}

impl<B: Deref<Target = [u8]>> Block<B> {
    fn new(bytes: B) -> Option<Self> {
        let big_endian = match bytes.get(..4)? {
            [b'I', b'I', 42, 0] => false,
            [b'M', b'M', 0, 42] => true,
            _ => return None,
        };
        Some(Self { bytes, big_endian })
    }

    fn u16_at(&self, at: usize) -> Option<u16> {
        let bytes = self.bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn u32_at(&self, at: usize) -> Option<u32> {
        let bytes = self.bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn value(&self, entry: &Entry) -> Option<u32> {
        match entry.kind {
            SHORT => self.u16_at(entry.value_at).map(u32::from),
            LONG => self.u32_at(entry.value_at),
            _ => None,
        }
    }

    /// All values of an entry that may have several: they lie in its value field if they fit there.
    fn values(&self, entry: &Entry) -> Option<Vec<usize>> {
        let size = match entry.kind {
            SHORT => 2,
            LONG => 4,
            _ => return None,
        };
        let count = self.u32_at(entry.value_at.checked_sub(4)?)? as usize;
        let start = if count <= 4 / size { entry.value_at } else { self.u32_at(entry.value_at)? as usize };
        // What is no number of values is not looked up one by one.
        self.bytes.get(start..start.checked_add(count.checked_mul(size)?)?)?;
        let value =
            |i| if size == 2 { self.u16_at(start + 2 * i).map(usize::from) } else { self.u32_at(start + 4 * i).map(|v| v as usize) };
        (0..count).map(value).collect()
    }

    /// The entries of the directory at `at`, and where the offset of the next one is kept.
    fn directory(&self, at: usize) -> Option<(Vec<Entry>, usize)> {
        let count = usize::from(self.u16_at(at)?);
        let next = at.checked_add(2 + 12 * count)?;
        self.bytes.get(..next)?;
        let entry = |i| {
            let at = at + 2 + 12 * i;
            Some(Entry { tag: self.u16_at(at)?, kind: self.u16_at(at + 2)?, value_at: at + 8 })
        };
        Some(((0..count).map_while(entry).collect(), next))
    }

    fn first_directory(&self) -> Option<(Vec<Entry>, usize)> {
        self.directory(self.u32_at(4)? as usize)
    }

    /// Takes from `budget` what a copy of every value in a chain of directories needs: any number of them may lie at one place.
    /// `None` where that is more, or where the block is damaged. The directories that `pointers` lead to are copied too.
    fn spend(&self, mut at: usize, pointers: &[u16], budget: &mut usize) -> Option<()> {
        for _ in 0..MAX_DIRECTORIES {
            if at == 0 {
                return Some(());
            }
            let (entries, next) = self.directory(at)?;
            for entry in &entries {
                let size = VALUE_BYTES.get(usize::from(entry.kind)).copied().unwrap_or_default();
                let count = self.u32_at(entry.value_at.checked_sub(4)?)? as usize;
                *budget = budget.checked_sub(count.checked_mul(size)?.checked_add(FIELD_BYTES)?)?;
                if pointers.contains(&entry.tag) {
                    // Several would not be in the entry.
                    (count == 1).then_some(())?;
                    let below = if entry.tag == EXIF_DIRECTORY { &[INTEROPERABILITY_DIRECTORY][..] } else { &[] };
                    self.spend(self.value(entry)? as usize, below, budget)?;
                }
            }
            at = self.u32_at(next)? as usize;
        }
        (at == 0).then_some(())
    }
}

impl Block<&mut [u8]> {
    fn put(&mut self, entry: &Entry, value: u32) {
        let at = entry.value_at;
        match (entry.kind, self.big_endian) {
            (SHORT, true) => self.bytes[at..at + 2].copy_from_slice(&(value as u16).to_be_bytes()),
            (SHORT, false) => self.bytes[at..at + 2].copy_from_slice(&(value as u16).to_le_bytes()),
            (LONG, true) => self.bytes[at..at + 4].copy_from_slice(&value.to_be_bytes()),
            (LONG, false) => self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes()),
            _ => {}
        }
    }
}

/// Everything in a block or a TIFF file, and whether it is little-endian; `None` where it cannot be read, or only with far more memory
/// than its bytes take.
fn fields(bytes: &[u8]) -> Option<(Vec<Field>, bool)> {
    let block = Block::new(bytes)?;
    let mut budget = bytes.len().max(LEAST_BUDGET);
    let affordable = block.spend(block.u32_at(4)? as usize, &[EXIF_DIRECTORY, GPS_DIRECTORY], &mut budget);
    affordable.or_else(|| {
        log::info!("metadata that is damaged or repeats itself was not read");
        None
    })?;
    exif::parse_exif(bytes).inspect_err(|e| log::info!("no metadata was read: {e}")).ok()
}

/// Makes a block describe the upright picture: orientation 1, and without the preview, which shows the unedited photo as it lay.
pub fn make_upright(exif: &mut [u8]) {
    let Some(mut block) = Block::new(exif) else { return };
    let Some((entries, next)) = block.first_directory() else { return };
    if let Some(orientation) = entries.iter().find(|e| e.tag == ORIENTATION) {
        block.put(orientation, 1);
    }
    drop_thumbnail(&mut block, next);
}

fn drop_thumbnail(block: &mut Block<&mut [u8]>, next: usize) -> Option<()> {
    let second = block.u32_at(next)? as usize;
    block.bytes.get_mut(next..next + 4)?.fill(0);
    let (entries, _) = block.directory(second)?;
    let values = |tag| entries.iter().find(|e| e.tag == tag).and_then(|e| block.values(e)).unwrap_or_default();
    // As a JPEG, or uncompressed in strips.
    let [starts, lengths] = [[THUMBNAIL_OFFSET, STRIP_OFFSETS], [THUMBNAIL_LENGTH, STRIP_LENGTHS]].map(|tags| tags.map(values).concat());
    for (start, length) in starts.into_iter().zip(lengths) {
        if let Some(bytes) = block.bytes.get_mut(start..start.saturating_add(length)) {
            bytes.fill(0);
        }
    }
    Some(())
}

/// Sets the picture's size in pixels where the block gives one.
pub fn set_size(exif: &mut [u8], width: u32, height: u32) {
    let Some(mut block) = Block::new(exif) else { return };
    let Some((entries, _)) = block.first_directory() else { return };
    let details = entries.iter().find(|e| e.tag == EXIF_DIRECTORY).and_then(|e| block.value(e));
    let Some((entries, _)) = details.and_then(|at| block.directory(at as usize)) else { return };
    for entry in &entries {
        match entry.tag {
            PIXEL_X_DIMENSION => block.put(entry, width),
            PIXEL_Y_DIMENSION => block.put(entry, height),
            _ => {}
        }
    }
}

/// What a TIFF file says beside its pixels.
#[derive(Debug, Default)]
pub struct TiffMetadata {
    /// What its directories say about the picture, as a block without the picture.
    pub exif: Option<Vec<u8>>,
    pub xmp: Option<Vec<u8>>,
    pub icc: Option<Vec<u8>>,
}

/// Reads a TIFF file's metadata; what cannot be read is left out.
pub fn from_tiff(file: &[u8]) -> TiffMetadata {
    let Some((fields, little_endian)) = fields(file) else { return TiffMetadata::default() };
    let fields: Vec<&Field> = fields.iter().filter(|f| f.ifd_num == In::PRIMARY).collect();
    let bytes = |tag| match &fields.iter().find(|f| f.tag == Tag(Context::Tiff, tag))?.value {
        Value::Byte(bytes) | Value::Undefined(bytes, _) => Some(bytes.clone()),
        _ => None,
    };
    let mut writer = exif::experimental::Writer::new();
    let kept: Vec<&Field> = fields.iter().copied().filter(|f| is_kept(f)).collect();
    kept.iter().for_each(|field| writer.push_field(field));
    let mut block = Cursor::new(Vec::new());
    let written = !kept.is_empty() && writer.write(&mut block, little_endian).is_ok();
    TiffMetadata { exif: written.then(|| block.into_inner()), xmp: bytes(XMP), icc: bytes(ICC_PROFILE) }
}

fn is_kept(field: &Field) -> bool {
    !matches!(field.value, Value::Unknown(..)) && (field.tag.context() != Context::Tiff || DESCRIPTIVE.contains(&field.tag.number()))
}

/// The parts of a block as they lie in a TIFF file.
pub struct TiffDirectories {
    descriptive: Vec<Field>,
    details: Vec<Field>,
    gps: Vec<Field>,
}

impl TiffDirectories {
    pub fn read(exif: &[u8]) -> Option<Self> {
        let (fields, _) = fields(exif)?;
        let of = |context| {
            let wanted = |f: &&Field| f.ifd_num == In::PRIMARY && f.tag.context() == context && is_kept(f);
            fields.iter().filter(wanted).filter(|f| f.tag != Tag::InteropIFDPointer).cloned().collect()
        };
        Some(Self { descriptive: of(Context::Tiff), details: of(Context::Exif), gps: of(Context::Gps) })
    }

    /// Fields of the directory that describes the picture itself.
    pub fn descriptive(&self) -> &[Field] {
        &self.descriptive
    }

    /// The exposure and so on; empty if there is none.
    pub fn details(&self) -> &[Field] {
        &self.details
    }

    pub fn gps(&self) -> &[Field] {
        &self.gps
    }
}

/// Writes fields into a TIFF directory.
pub fn write_fields<W: Write + Seek, K: TiffKind>(to: &mut DirectoryEncoder<W, K>, fields: &[Field]) -> tiff::TiffResult<()> {
    for field in fields {
        let Some((kind, bytes)) = encoded(&field.value) else { continue };
        let entry = to.write_entry_bytes(kind, &bytes)?;
        to.extend_from(&[(tiff::tags::Tag::from_u16_exhaustive(field.tag.number()), entry)].into_iter().collect());
    }
    Ok(())
}

/// A value in this machine's byte order, which is the one that the TIFF encoder writes.
fn encoded(value: &Value) -> Option<(Type, Vec<u8>)> {
    let pair = |a: [u8; 4], b: [u8; 4]| [a, b].concat();
    Some(match value {
        Value::Byte(v) => (Type::BYTE, v.clone()),
        Value::Ascii(v) => (Type::ASCII, v.iter().flat_map(|s| s.iter().copied().chain([0])).collect()),
        Value::Short(v) => (Type::SHORT, v.iter().flat_map(|v| v.to_ne_bytes()).collect()),
        Value::Long(v) => (Type::LONG, v.iter().flat_map(|v| v.to_ne_bytes()).collect()),
        Value::Rational(v) => (Type::RATIONAL, v.iter().flat_map(|v| pair(v.num.to_ne_bytes(), v.denom.to_ne_bytes())).collect()),
        Value::SByte(v) => (Type::SBYTE, v.iter().flat_map(|v| v.to_ne_bytes()).collect()),
        Value::Undefined(v, _) => (Type::UNDEFINED, v.clone()),
        Value::SShort(v) => (Type::SSHORT, v.iter().flat_map(|v| v.to_ne_bytes()).collect()),
        Value::SLong(v) => (Type::SLONG, v.iter().flat_map(|v| v.to_ne_bytes()).collect()),
        Value::SRational(v) => (Type::SRATIONAL, v.iter().flat_map(|v| pair(v.num.to_ne_bytes(), v.denom.to_ne_bytes())).collect()),
        Value::Float(v) => (Type::FLOAT, v.iter().flat_map(|v| v.to_ne_bytes()).collect()),
        Value::Double(v) => (Type::DOUBLE, v.iter().flat_map(|v| v.to_ne_bytes()).collect()),
        Value::Unknown(..) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory as it lies in a little-endian block.
    fn directory(entries: &[(u16, u16, u32, u32)], next: u32) -> Vec<u8> {
        let mut out = (entries.len() as u16).to_le_bytes().to_vec();
        for (tag, kind, count, value) in entries {
            out.extend([tag.to_le_bytes(), kind.to_le_bytes()].concat());
            out.extend([count.to_le_bytes(), value.to_le_bytes()].concat());
        }
        [out, next.to_le_bytes().to_vec()].concat()
    }

    fn block(directories: &[Vec<u8>]) -> Vec<u8> {
        [b"II*\0\x08\0\0\0".to_vec(), directories.concat()].concat()
    }

    #[test]
    fn metadata_costs_no_more_than_its_file() {
        let make = (271, 2, 4, u32::from_le_bytes(*b"Abc\0"));
        let exposure = (33437, 5, 1, 0);
        let exif = (EXIF_DIRECTORY, LONG, 1, 8 + 2 + 2 * 12 + 4);
        let whole = block(&[directory(&[make, exif], 0), directory(&[exposure], 0)]);
        assert_eq!(fields(&whole).expect("fields").0.len(), 2);

        let refused = |directories: &[Vec<u8>]| fields(&block(directories)).is_none();
        assert!(refused(&[directory(&[], 8)]), "a ring");
        assert!(refused(&[directory(&[(EXIF_DIRECTORY, LONG, 2, 8)], 0)]), "a pointer that is none");
        assert!(refused(&[directory(&[make; 3], 0)[..30].to_vec()]), "the end is missing");
        // As many directories as there are pointers, all in the same bytes.
        let lead: Vec<_> = (0..2000).map(|_| (EXIF_DIRECTORY, LONG, 1, 8 + 2 + 2000 * 12 + 4)).collect();
        let long = directory(&vec![(33434, 5, 1, 0); 2000], 0);
        assert!(refused(&[directory(&lead, 0), long.clone()]));
        // One text, many times.
        let texts = vec![(271, 2, 24_000, 8); 200];
        assert!(refused(&[directory(&texts, 0), long]));
    }
}
