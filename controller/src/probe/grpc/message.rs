//! The two messages of `grpc.health.v1` and the frame around them: a text there, a number back. A generator for code, and the runtime
//! that such code needs, would be some eighty crates for these bytes.

/// In front of every message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// Field 1 of either message, as a text and as a number (the protobuf encoding's tags).
const FIELD_TEXT: u8 = 1 << 3 | 2;
const FIELD_NUMBER: u64 = 1 << 3;

/// A varint of 64 bits is no longer.
const VARINT_BYTES_MAX: usize = 10;

/// What a server says of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    Unknown,
    Serving,
    NotServing,
    ServiceUnknown,
    /// A number that the protocol does not have.
    Other(u64),
}

/// `HealthCheckRequest { service }`, framed.
pub(super) fn request(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    // An empty text is not sent at all.
    if !service.is_empty() {
        message.push(FIELD_TEXT);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(low_seven(length) | 0x80);
            length >>= 7;
        }
        message.push(low_seven(length));
        message.extend(service.as_bytes());
    }
    // A service's name is short: the language sees to it.
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[0][..], &length.to_be_bytes(), &message].concat()
}

#[expect(clippy::cast_possible_truncation, reason = "seven bits fit")]
const fn low_seven(number: usize) -> u8 {
    (number & 0x7f) as u8
}

/// The status in a framed `HealthCheckResponse`, or why the bytes are not one.
pub(super) fn response(framed: &[u8]) -> Result<Health, &'static str> {
    let (prefix, message) = framed
        .split_at_checked(PREFIX_BYTES)
        .ok_or("the answer has no message in it")?;
    if prefix[0] != 0 {
        return Err("the answer is compressed, though nobody asked for that");
    }
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    if usize::try_from(length) != Ok(message.len()) {
        return Err("the answer is not one whole message");
    }
    // The default of a field is not sent at all.
    let mut status = 0;
    let mut rest = message;
    while !rest.is_empty() {
        let tag = varint(&mut rest).ok_or(BROKEN)?;
        match tag & 7 {
            0 => {
                let number = varint(&mut rest).ok_or(BROKEN)?;
                // Of several, the last one counts.
                if tag == FIELD_NUMBER {
                    status = number;
                }
            }
            1 => skip(&mut rest, 8).ok_or(BROKEN)?,
            2 => {
                let length = varint(&mut rest).ok_or(BROKEN)?;
                skip(&mut rest, usize::try_from(length).map_err(|_| BROKEN)?).ok_or(BROKEN)?;
            }
            5 => skip(&mut rest, 4).ok_or(BROKEN)?,
            _ => return Err(BROKEN),
        }
    }
    Ok(match status {
        0 => Health::Unknown,
        1 => Health::Serving,
        2 => Health::NotServing,
        3 => Health::ServiceUnknown,
        other => Health::Other(other),
    })
}

const BROKEN: &str = "the answer is not a health check's";

fn skip(rest: &mut &[u8], bytes: usize) -> Option<()> {
    *rest = rest.get(bytes..)?;
    Some(())
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for at in 0..VARINT_BYTES_MAX {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[0][..], &length, message].concat()
    }

    #[test]
    fn a_request_is_what_the_standard_says() {
        assert_eq!(request(""), [0, 0, 0, 0, 0]);
        assert_eq!(request("shop"), *b"\0\0\0\0\x06\x0a\x04shop");
        let long = "s".repeat(200);
        assert_eq!(request(&long)[..8], [0, 0, 0, 0, 203, 0x0a, 0xc8, 1]);
    }

    #[test]
    fn each_status_has_its_number() {
        let status = |message: &[u8]| response(&framed(message));
        assert_eq!(status(&[]), Ok(Health::Unknown));
        assert_eq!(status(&[8, 1]), Ok(Health::Serving));
        assert_eq!(status(&[8, 2]), Ok(Health::NotServing));
        assert_eq!(status(&[8, 3]), Ok(Health::ServiceUnknown));
        assert_eq!(status(&[8, 0xac, 2]), Ok(Health::Other(300)));
        // Fields that later versions may have are stepped over.
        let later = [
            0x12, 2, b'h', b'i', 0x1d, 0, 0, 0, 0, 8, 1, 0x21, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(status(&later), Ok(Health::Serving));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for wrong in [
            &b""[..],
            b"<html>",
            &[1, 0, 0, 0, 0],
            &[0, 0, 0, 0, 2, 8],
            &framed(&[8]),
            &framed(&[0x12, 9, b'x']),
            &framed(&[0xff; 12]),
            &framed(&[7, 0]),
        ] {
            assert!(response(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _any = response(&bytes);
            let _any = response(&framed(&bytes));
        }
    }
}
