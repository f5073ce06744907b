//! One file of systemd's journal, read as <https://systemd.io/JOURNAL_FILE_FORMAT/> describes it.
//!
//! A header says how many entries there are and where the first array of their places is; arrays are chained. An entry is a
//! list of places of its fields, each an object `NAME=value` of its own that entries share. journald writes an entry, then
//! its place, then the new count: whoever reads the count first finds whole entries, while journald writes on.
//! Numbers are little-endian. Nothing is mapped: a file that shrinks is an error and not a signal.

use super::LINE_BYTES_MAX;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

const SIGNATURE: &[u8; 8] = b"LPKSHHRH";
/// The header as far as all versions have it.
const HEADER_BYTES: usize = 184;
const COMPACT: u32 = 1 << 4;
/// Compressed by xz, lz4 and zstd, keyed hashes, compact.
const KNOWN: u32 = 0b1_1111;

const DATA: u8 = 1;
const FIELD: u8 = 2;
const ENTRY: u8 = 3;
const ENTRY_ARRAY: u8 = 6;

const XZ: u8 = 1;
const LZ4: u8 = 1 << 1;
const ZSTD: u8 = 1 << 2;

const ENTRY_BYTES: u64 = 64;
/// Before the name in an object that stands for all values of a field.
const FIELD_HEAD_BYTES: u64 = 40;
/// A place of the table of fields: the first and the last field in it.
const BUCKET_BYTES: u64 = 16;
/// journald makes tables of 1,023 places; no chain in them is long.
const BUCKETS_MAX: u64 = 1 << 16;
/// A machine has hundreds of units, and each of them one value of a field.
const VALUES_MAX: u32 = 100_000;
const ARRAY_BYTES: u64 = 24;

/// Each array is about twice as long as the one before it.
const ARRAYS_MAX: usize = 10_000;
/// journald's own limit.
const FIELDS_MAX: u64 = 1024;
/// Names of units have 255 characters at most, and most fields are shorter than this.
const FIELD_BYTES: usize = 320;
/// Fields that many entries share are looked at once, and so many remembered.
const REMEMBERED_MAX: usize = 4096;
/// A compressed message is read so far: a block of zstd, which is all that the looked at part can need, has 128 KiB.
const COMPRESSED_BYTES_MAX: usize = 192 << 10;
/// lz4 is not read in parts; what would be longer is not looked at.
const LZ4_BYTES_MAX: usize = 4 << 20;
/// zstd looks back so far at most.
const WINDOW_BYTES_MAX: usize = 8 << 20;

/// 128 random bits.
pub(super) type Id = [u8; 16];

/// How far a file has been read.
#[derive(Default)]
pub(super) struct Place {
    /// Where the current array is.
    array: Option<u64>,
    /// How many of its places have been taken.
    taken: u64,
    /// How many entries have been taken in all.
    entries: u64,
    /// Entries up to this number are old.
    old: u64,
    fields: HashMap<u64, Field>,
}

impl Place {
    /// Before the first entry, of which those up to the number `old` do not count.
    pub(super) fn beginning(old: u64) -> Self {
        Self {
            old,
            ..Self::default()
        }
    }
}

/// What a field says about its entry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Unit,
    Message,
    Other,
    /// Compressed in a way that is not read.
    Closed,
}

/// An open file with the header that it had then.
pub(super) struct JournalFile {
    file: File,
    id: Id,
    sequence: Id,
    entries: u64,
    last: u64,
    first_array: u64,
    /// Where the table of fields is, and how long.
    fields: (u64, u64),
    is_compact: bool,
}

impl JournalFile {
    /// Nothing when the header has not been written yet.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        if length == 0 {
            return Ok(None);
        }
        if length < HEADER_BYTES as u64 {
            return Err(broken("it is not a journal file: too short"));
        }
        let header: [u8; HEADER_BYTES] = bytes(&file, 0)?;
        let signature: [u8; 8] = part(&header, 0)?;
        if signature == [0; 8] {
            return Ok(None);
        }
        if &signature != SIGNATURE {
            return Err(broken("it is not a journal file"));
        }
        let features = u32::from_le_bytes(part(&header, 12)?);
        if features & !KNOWN != 0 {
            let why = format!(
                "this journal is of a newer kind (features {features:#x}) than Squall reads"
            );
            return Err(broken(why));
        }
        let entries = number(&header, 152)?;
        // No entry is shorter; a count that cannot be must not be counted to.
        if entries > length / ENTRY_BYTES {
            return Err(broken(format!(
                "damaged: {entries} entries in {length} bytes"
            )));
        }
        Ok(Some(Self {
            id: part(&header, 24)?,
            sequence: part(&header, 72)?,
            entries,
            last: number(&header, 160)?,
            first_array: number(&header, 176)?,
            fields: (number(&header, 120)?, number(&header, 128)?),
            is_compact: features & COMPACT != 0,
            file,
        }))
    }

    /// It keeps this when it is renamed.
    pub(super) const fn id(&self) -> Id {
        self.id
    }

    /// What its entries are numbered in, with those of other files.
    pub(super) const fn sequence(&self) -> Id {
        self.sequence
    }

    /// The number of the last entry.
    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    /// Behind the last entry.
    pub(super) fn end(&self) -> io::Result<Place> {
        let mut place = Place::default();
        let mut left = self.entries;
        let mut array = self.first_array;
        for _ in 0..ARRAYS_MAX {
            if array == 0 || left == 0 {
                break;
            }
            let (room, next) = self.array(array)?;
            place.array = Some(array);
            place.taken = left.min(room);
            left -= place.taken;
            array = next;
        }
        if left > 0 {
            return Err(broken(format!("damaged: {left} entries are missing")));
        }
        place.entries = self.entries;
        Ok(place)
    }

    /// Whether any entry, old or new, is the unit's or about it, as the file's own index has it: a table of fields, each with a chain of its
    /// values.
    pub(super) fn knows(&self, unit: &str) -> io::Result<bool> {
        let (table, length) = self.fields;
        if table == 0 {
            return Ok(false);
        }
        for bucket in 0..(length / BUCKET_BYTES).min(BUCKETS_MAX) {
            let mut field =
                u64::from_le_bytes(bytes(&self.file, within(table, bucket * BUCKET_BYTES)?)?);
            for _ in 0..FIELDS_MAX {
                if field == 0 {
                    break;
                }
                let head: [u8; FIELD_HEAD_BYTES as usize] = self.object(field, FIELD)?;
                if self.is_of_unit(field, &head)? && self.has_value(number(&head, 32)?, unit)? {
                    return Ok(true);
                }
                field = number(&head, 24)?;
            }
        }
        Ok(false)
    }

    /// Whether a field names the unit of its entry.
    fn is_of_unit(&self, at: u64, head: &[u8]) -> io::Result<bool> {
        let names: [&[u8]; 2] = [b"_SYSTEMD_UNIT", b"UNIT"];
        let length = number(head, 8)?.saturating_sub(FIELD_HEAD_BYTES);
        for name in names.into_iter().filter(|name| name.len() as u64 == length) {
            let mut text = vec![0; name.len()];
            self.file
                .read_exact_at(&mut text, within(at, FIELD_HEAD_BYTES)?)?;
            if text == name {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether one of the values from `value` on is the unit.
    fn has_value(&self, mut value: u64, unit: &str) -> io::Result<bool> {
        for _ in 0..VALUES_MAX {
            if value == 0 {
                break;
            }
            if self.field(value, unit)? == Field::Unit {
                return Ok(true);
            }
            let head: [u8; 40] = self.object(value, DATA)?;
            value = number(&head, 32)?;
        }
        Ok(false)
    }

    /// Gives the unit's messages behind `place` to `take`, while `left` entries last.
    pub(super) fn read(
        &self,
        place: &mut Place,
        unit: &str,
        left: &mut u64,
        take: &mut impl FnMut(&[u8]),
    ) -> io::Result<()> {
        while *left > 0 && place.entries < self.entries {
            *left -= 1;
            let entry = self.next(place)?;
            if let Some(message) = self.entry(entry, place, unit)? {
                let mut text = self.text(message, LINE_BYTES_MAX + b"MESSAGE=".len())?;
                take(&text.split_off(b"MESSAGE=".len().min(text.len())));
            }
        }
        Ok(())
    }

    /// Where the next entry is. It counts as taken, so that a damaged one is not met again.
    fn next(&self, place: &mut Place) -> io::Result<u64> {
        for _ in 0..ARRAYS_MAX {
            let array = place.array.unwrap_or(self.first_array);
            let (room, next) = self.array(array)?;
            place.array = Some(array);
            if place.taken < room {
                let at = ARRAY_BYTES + place.taken * self.width(8);
                let entry = self.offset(within(array, at)?)?;
                place.taken += 1;
                place.entries += 1;
                return Ok(entry);
            }
            if next == 0 {
                break;
            }
            place.array = Some(next);
            place.taken = 0;
        }
        Err(broken("damaged: an entry that is counted is missing"))
    }

    /// How many places an array has, and where the next one is.
    fn array(&self, at: u64) -> io::Result<(u64, u64)> {
        let head: [u8; 24] = self.object(at, ENTRY_ARRAY)?;
        let room = number(&head, 8)?.saturating_sub(ARRAY_BYTES) / self.width(8);
        Ok((room, number(&head, 16)?))
    }

    /// Where the message of an entry is, when it is the unit's and new.
    fn entry(&self, at: u64, place: &mut Place, unit: &str) -> io::Result<Option<u64>> {
        let head: [u8; 24] = self.object(at, ENTRY)?;
        if number(&head, 16)? <= place.old {
            return Ok(None);
        }
        let width = self.width(16);
        let count = number(&head, 8)?.saturating_sub(ENTRY_BYTES) / width;
        let (mut is_units, mut is_closed, mut message) = (false, false, None);
        for item in 0..count.min(FIELDS_MAX) {
            let field = self.offset(within(at, ENTRY_BYTES + item * width)?)?;
            if field == 0 {
                break;
            }
            let kind = match place.fields.get(&field) {
                Some(known) => *known,
                None => self.field(field, unit)?,
            };
            match kind {
                Field::Unit => is_units = true,
                Field::Message => message = message.or(Some(field)),
                Field::Closed => is_closed = true,
                Field::Other => {}
            }
            if place.fields.len() >= REMEMBERED_MAX {
                place.fields.clear();
            }
            place.fields.insert(field, kind);
        }
        if is_units && is_closed && message.is_none() {
            return Err(broken(
                "a message is compressed with xz, which Squall does not read; journald no longer writes it",
            ));
        }
        Ok(message.filter(|_| is_units))
    }

    fn field(&self, at: u64, unit: &str) -> io::Result<Field> {
        let text = match self.text(at, FIELD_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(Field::Closed),
            text => text?,
        };
        let is = |name: &[u8]| text.strip_prefix(name) == Some(unit.as_bytes());
        Ok(if is(b"_SYSTEMD_UNIT=") || is(b"UNIT=") {
            Field::Unit
        } else if text.starts_with(b"MESSAGE=") {
            Field::Message
        } else {
            Field::Other
        })
    }

    /// The beginning of a field, `NAME=value`.
    fn text(&self, at: u64, most: usize) -> io::Result<Vec<u8>> {
        let head: [u8; 16] = self.object(at, DATA)?;
        let [_, flags, ..] = head;
        let before = if self.is_compact { 72 } else { 64 };
        let length = number(&head, 8)?.saturating_sub(before);
        let read = |most: usize| -> io::Result<Vec<u8>> {
            let length = usize::try_from(length).unwrap_or(usize::MAX).min(most);
            let mut text = vec![0; length];
            self.file.read_exact_at(&mut text, within(at, before)?)?;
            Ok(text)
        };
        match flags & (XZ | LZ4 | ZSTD) {
            0 => read(most),
            ZSTD => zstd(&read(COMPRESSED_BYTES_MAX)?, most),
            LZ4 => lz4(&read(LZ4_BYTES_MAX)?, most),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// The beginning of an object of this kind.
    fn object<const N: usize>(&self, at: u64, kind: u8) -> io::Result<[u8; N]> {
        let head: [u8; N] = bytes(&self.file, at)?;
        if head.first() == Some(&kind) {
            Ok(head)
        } else {
            Err(broken(format!("damaged at byte {at}")))
        }
    }

    /// How wide a place is: 4 bytes in compact files, and in others so many.
    const fn width(&self, wide: u64) -> u64 {
        if self.is_compact { 4 } else { wide }
    }

    fn offset(&self, at: u64) -> io::Result<u64> {
        if self.is_compact {
            Ok(u64::from(u32::from_le_bytes(bytes(&self.file, at)?)))
        } else {
            Ok(u64::from_le_bytes(bytes(&self.file, at)?))
        }
    }
}

/// The beginning of what zstd packed. A cut end is no error: it was not wanted.
fn zstd(packed: &[u8], most: usize) -> io::Result<Vec<u8>> {
    let decoder = ruzstd::decoding::StreamingDecoder::new_with_max_window_size(
        packed,
        WINDOW_BYTES_MAX as u64,
    );
    let mut decoder = decoder.map_err(|error| broken(format!("zstd: {error}")))?;
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    while text.len() < most {
        match decoder.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => text.extend_from_slice(chunk.get(..read).unwrap_or_default()),
            Err(_) if packed.len() == COMPRESSED_BYTES_MAX => break,
            Err(error) => return Err(broken(format!("zstd: {error}"))),
        }
    }
    text.truncate(most);
    Ok(text)
}

/// journald writes the length, then one block.
fn lz4(packed: &[u8], most: usize) -> io::Result<Vec<u8>> {
    let (length, block) = packed
        .split_first_chunk::<8>()
        .ok_or_else(|| broken("lz4: too short"))?;
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if length > LZ4_BYTES_MAX {
        return Ok(Vec::new());
    }
    let mut text = lz4_flex::block::decompress(block, length)
        .map_err(|error| broken(format!("lz4: {error}")))?;
    text.truncate(most);
    Ok(text)
}

fn broken(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

fn bytes<const N: usize>(file: &File, at: u64) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact_at(&mut bytes, at)
        .map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => broken(format!("damaged: it ends before byte {at}")),
            _ => error,
        })?;
    Ok(bytes)
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> io::Result<[u8; N]> {
    let part = bytes.get(at..).and_then(<[u8]>::first_chunk);
    part.copied().ok_or_else(|| broken("too short"))
}

fn number(bytes: &[u8], at: usize) -> io::Result<u64> {
    Ok(u64::from_le_bytes(part(bytes, at)?))
}

fn within(object: u64, at: u64) -> io::Result<u64> {
    let place = object.checked_add(at);
    place.ok_or_else(|| broken(format!("damaged at byte {object}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The writer that the tests have does not pack by lz4: five letters as they are, eight that repeat them, five more.
    #[test]
    fn lz4_is_a_length_and_a_block() {
        let block = b"\x54ERROR\x05\x00\x50, end";
        let packed = [&18_u64.to_le_bytes()[..], block].concat();
        assert_eq!(lz4(&packed, 100).unwrap(), b"ERRORERRORERR, end");
        assert_eq!(lz4(&packed, 7).unwrap(), b"ERRORER");
        for damaged in [&packed[..4], &packed[..12]] {
            assert!(lz4(damaged, 100).is_err());
        }
        let endless = [&u64::MAX.to_le_bytes()[..], block].concat();
        assert_eq!(lz4(&endless, 100).unwrap(), b"");
    }

    #[test]
    fn damaged_zstd_is_told() {
        assert!(zstd(b"ERROR", 100).is_err());
        assert!(zstd(b"\x28\xb5\x2f\xfd\xff\xff\xff", 100).is_err());
    }
}
