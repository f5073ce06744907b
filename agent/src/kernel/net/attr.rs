//! Netlink attributes: a writer, and a reader that skips what it does not know.
//!
//! Layout (`include/uapi/linux/netlink.h`, `struct nlattr`): u16 length with its 4-byte header, u16 kind, value, padded to 4.

/// Set in the kind of an attribute that holds attributes (`NLA_F_NESTED`).
const NESTED: u16 = 0x8000;
/// The bits of a kind that name it (`NLA_TYPE_MASK`).
const KIND_MASK: u16 = 0x3fff;
const HEADER_BYTES: usize = 4;

/// A message body under construction: whatever fixed header it starts with, then attributes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Body(Vec<u8>);

impl Body {
    /// Starts with a fixed header (`ifinfomsg`, `tcmsg`, `nfgenmsg`), already in wire order.
    #[must_use]
    pub(crate) fn with_header(header: &[u8]) -> Self {
        Self(header.to_vec())
    }

    /// The same, with room for so many bytes in all.
    pub(crate) fn with_room(bytes: usize, header: &[u8]) -> Self {
        let mut room = Vec::with_capacity(bytes);
        room.extend_from_slice(header);
        Self(room)
    }

    /// The bytes so far.
    #[must_use]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, given away.
    #[must_use]
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Appends an attribute. A value over 64 KiB cannot be expressed and is an error of the caller: it is cut in
    /// debug builds by the assertion, and every caller's values are bounded far below.
    pub(crate) fn put(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = HEADER_BYTES + value.len();
        debug_assert!(
            u16::try_from(length).is_ok(),
            "attribute {kind} of {length} bytes"
        );
        self.0.extend_from_slice(&(length as u16).to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.pad();
        self
    }

    /// Appends a NUL-terminated string.
    pub(crate) fn put_str(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.put(kind, &bytes)
    }

    /// Appends a big-endian u32, as nftables and nfnetlink want numbers.
    pub(crate) fn put_be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// Appends a big-endian u16.
    pub(crate) fn put_be16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// Appends an attribute that holds others.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Body)) -> &mut Self {
        let mut inner = Body::default();
        fill(&mut inner);
        self.nest_bytes(kind, &inner.0)
    }

    /// Appends an attribute that holds others already encoded.
    pub(crate) fn nest_bytes(&mut self, kind: u16, inner: &[u8]) -> &mut Self {
        self.put(kind | NESTED, inner)
    }

    fn pad(&mut self) {
        while !self.0.len().is_multiple_of(4) {
            self.0.push(0);
        }
    }
}

/// Iterates the attributes of a buffer, ending at the first that does not fit: the kernel writes whole ones.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_ne(bytes)?);
        let kind = u16_ne(bytes.get(2..)?)? & KIND_MASK;
        let value = bytes.get(HEADER_BYTES..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of a kind.
#[must_use]
pub(crate) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(k, _)| *k == kind).map(|(_, v)| v)
}

/// A string value without its NUL.
#[must_use]
pub(crate) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

fn u16_ne(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|b| u16::from_ne_bytes(*b))
}

/// The first four bytes as a native u32.
#[must_use]
pub(crate) fn u32_ne(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|b| u32::from_ne_bytes(*b))
}

/// The first four bytes as a big-endian u32.
#[must_use]
pub(crate) fn u32_be(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|b| u32::from_be_bytes(*b))
}

/// The first eight bytes as a big-endian u64.
#[must_use]
pub(crate) fn u64_be(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|b| u64::from_be_bytes(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut body = Body::with_header(&[1, 2, 3, 4]);
        body.put_str(3, "eth0").nest(18, |n| {
            n.put_str(1, "ifb").put_be32(2, 7);
        });
        let attrs = &body.bytes()[4..];
        assert_eq!(find(attrs, 3).map(text).as_deref(), Some("eth0"));
        let inner = find(attrs, 18).expect("the nest");
        assert_eq!(find(inner, 1).map(text).as_deref(), Some("ifb"));
        assert_eq!(find(inner, 2).and_then(u32_be), Some(7));
        assert!(body.bytes().len().is_multiple_of(4));
    }

    #[test]
    fn a_cut_buffer_ends_the_iteration() {
        let mut body = Body::default();
        body.put(1, &[9; 8]).put(2, &[9; 8]);
        let cut = &body.bytes()[..body.bytes().len() - 1];
        assert_eq!(attributes(cut).count(), 1);
        assert_eq!(
            attributes(&[0, 0, 0, 0, 0]).count(),
            0,
            "a length of zero must not loop"
        );
        assert_eq!(attributes(&[3, 0]).count(), 0);
    }
}
