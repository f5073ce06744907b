//! What a client's first bytes say about the protocol of its connection.

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speech {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2 without TLS, known beforehand (RFC 9113, section 3.3).
    Http2,
    /// TLS: nobody can look inside.
    Tls,
    /// Something else.
    Other,
    /// Too few bytes to tell.
    Unclear,
}

/// How HTTP/2 begins (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";
/// The longest method that is registered has 17 letters (UPDATEREDIRECTREF).
const METHOD_BYTES_MAX: usize = 20;
/// A handshake record of SSL 3 or any TLS (RFC 8446, section 5.1).
const TLS: [u8; 2] = [22, 3];

/// As many bytes as settle it in every case.
pub(super) const BYTES: usize = METHOD_BYTES_MAX + 1;

/// Tells what is spoken by the first bytes that came.
pub(super) fn tell(bytes: &[u8]) -> Speech {
    let begins = |with: &[u8]| {
        let common = bytes.len().min(with.len());
        bytes[..common] == with[..common]
    };
    if bytes.is_empty() {
        return Speech::Unclear;
    }
    if begins(&TLS) {
        return if bytes.len() >= TLS.len() {
            Speech::Tls
        } else {
            Speech::Unclear
        };
    }
    if begins(PREFACE) && bytes.len() >= 4 {
        return Speech::Http2;
    }
    // A method is a token in capitals, and a blank comes behind it.
    let letters = bytes
        .iter()
        .take_while(|b| b.is_ascii_uppercase() || **b == b'-' || **b == b'_')
        .count();
    match bytes.get(letters) {
        Some(b' ') if (1..=METHOD_BYTES_MAX).contains(&letters) => Speech::Http1,
        None if letters <= METHOD_BYTES_MAX => Speech::Unclear,
        _ => Speech::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_what_is_spoken() {
        for (bytes, expected) in [
            (&b"GET / HTTP/1.1\r\n"[..], Speech::Http1),
            (b"M-SEARCH * HTTP/1.1\r\n", Speech::Http1),
            (b"PRI * HTTP/2.0\r\n\r\nSM", Speech::Http2),
            (b"\x16\x03\x01\x02\x00\x01", Speech::Tls),
            (b"*1\r\n$4\r\nPING\r\n", Speech::Other),
            (b"PING\r\n", Speech::Other),
            (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", Speech::Other),
            (b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", Speech::Other),
            (b"P", Speech::Unclear),
            (b"PRI", Speech::Unclear),
            (b"\x16", Speech::Unclear),
            (b"", Speech::Unclear),
        ] {
            assert_eq!(tell(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn enough_bytes_are_never_unclear() {
        for first in 0..=u8::MAX {
            assert_ne!(tell(&[first; BYTES]), Speech::Unclear, "{first}");
        }
    }
}
