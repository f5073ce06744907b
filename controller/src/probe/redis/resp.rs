//! Commands and replies as bytes (RESP, version 2: what every Redis speaks until asked for another). Every length in a reply is doubted.

/// So much of a reply is read; a probe that asks for more asks for the wrong thing.
pub(super) const REPLY_BYTES_MAX: usize = 1 << 20;

/// Lists in lists in lists: no harmless command answers with more.
const DEPTH_MAX: usize = 4;

/// A status, a number's digits, an error: one line.
const LINE_BYTES_MAX: usize = 64 << 10;

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// `+PONG`
    Status(String),
    /// `-ERR unknown command`
    Error(String),
    /// `:3`
    Number(i64),
    /// Bytes.
    Bulk(Vec<u8>),
    /// There is no such thing.
    Nil,
    /// So many replies.
    List(usize),
}

/// The bytes are not RESP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not in Redis' protocol: {0}")]
pub(super) struct Garbage(&'static str);

/// A command and its arguments.
pub(super) fn command<'w>(words: impl ExactSizeIterator<Item = &'w str>) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).bytes());
        bytes.extend(word.bytes());
        bytes.extend(b"\r\n");
    }
    bytes
}

/// The reply that `bytes` begin with and how long it is; nothing where it is not there yet.
pub(super) fn reply(bytes: &[u8]) -> Result<Option<(Reply, usize)>, Garbage> {
    let mut rest = bytes;
    match step(&mut rest, DEPTH_MAX) {
        Ok(reply) => Ok(Some((reply, bytes.len() - rest.len()))),
        Err(Stop::Unfinished) if bytes.len() >= REPLY_BYTES_MAX => Err(Garbage("it does not end")),
        Err(Stop::Unfinished) => Ok(None),
        Err(Stop::Garbage(garbage)) => Err(garbage),
    }
}

enum Stop {
    Unfinished,
    Garbage(Garbage),
}

const fn garbage(what: &'static str) -> Stop {
    Stop::Garbage(Garbage(what))
}

fn step(rest: &mut &[u8], depth: usize) -> Result<Reply, Stop> {
    let kind = *rest.first().ok_or(Stop::Unfinished)?;
    // Told before the line is whole: a server of another protocol may never end one.
    if !b"+-:$*".contains(&kind) {
        return Err(garbage("it begins with no type"));
    }
    let line = &line(rest)?[1..];
    let text = || String::from_utf8_lossy(line).into_owned();
    Ok(match kind {
        b'+' => Reply::Status(text()),
        b'-' => Reply::Error(text()),
        b':' => Reply::Number(number(line)?),
        b'$' => match length(line)? {
            None => Reply::Nil,
            Some(length) => Reply::Bulk(bulk(rest, length)?),
        },
        _ => match length(line)? {
            None => Reply::Nil,
            Some(items) => {
                let depth = depth.checked_sub(1).ok_or(garbage("it is too deep"))?;
                for _ in 0..items {
                    step(rest, depth)?;
                }
                Reply::List(items)
            }
        },
    })
}

/// Up to the end of the line, which is stepped over.
fn line<'m>(rest: &mut &'m [u8]) -> Result<&'m [u8], Stop> {
    let near = &rest[..rest.len().min(LINE_BYTES_MAX)];
    let Some(end) = near.windows(2).position(|pair| pair == b"\r\n") else {
        return Err(if near.len() == LINE_BYTES_MAX {
            garbage("a line in it does not end")
        } else {
            Stop::Unfinished
        });
    };
    let (line, tail) = rest.split_at(end);
    *rest = &tail[2..];
    Ok(line)
}

fn bulk(rest: &mut &[u8], length: usize) -> Result<Vec<u8>, Stop> {
    let (bytes, tail) = rest.split_at_checked(length).ok_or(Stop::Unfinished)?;
    let (end, tail) = tail.split_at_checked(2).ok_or(Stop::Unfinished)?;
    if end != b"\r\n" {
        return Err(garbage("a text in it is longer than it says"));
    }
    *rest = tail;
    Ok(bytes.to_vec())
}

fn number(digits: &[u8]) -> Result<i64, Stop> {
    let digits = std::str::from_utf8(digits).ok();
    let number = digits.and_then(|digits| digits.parse().ok());
    number.ok_or(garbage("a number in it is none"))
}

/// -1 says that there is nothing.
fn length(digits: &[u8]) -> Result<Option<usize>, Stop> {
    match number(digits)? {
        -1 => Ok(None),
        length => match usize::try_from(length) {
            Ok(length) if length <= REPLY_BYTES_MAX => Ok(Some(length)),
            _ => Err(garbage("it is longer than a probe reads (1 MiB)")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_command_is_what_the_protocol_says() {
        let bytes = command(["GET", "héé"].into_iter());
        assert_eq!(bytes, "*2\r\n$3\r\nGET\r\n$5\r\nhéé\r\n".as_bytes());
    }

    #[test]
    fn replies_are_read_and_measured() {
        let whole = |bytes: &[u8]| reply(bytes).unwrap().unwrap();
        assert_eq!(whole(b"+PONG\r\nrest"), (Reply::Status("PONG".into()), 7));
        assert_eq!(whole(b"-ERR no\r\n").0, Reply::Error("ERR no".into()));
        assert_eq!(whole(b":-7\r\n").0, Reply::Number(-7));
        assert_eq!(
            whole(b"$5\r\na\r\nbc\r\n").0,
            Reply::Bulk(b"a\r\nbc".to_vec())
        );
        assert_eq!(
            (whole(b"$-1\r\n").0, whole(b"*-1\r\n").0),
            (Reply::Nil, Reply::Nil)
        );
        assert_eq!(
            whole(b"*2\r\n$1\r\n1\r\n*1\r\n:2\r\n+"),
            (Reply::List(2), 19)
        );
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        let deep = "*1\r\n".repeat(DEPTH_MAX + 1);
        let endless = format!("+{}", "x".repeat(LINE_BYTES_MAX));
        for wrong in [
            "HTTP/1.1 400 Bad Request\r\n",
            ":seven\r\n",
            "$-2\r\n",
            "$9999999999\r\n",
            "*9999999999\r\n",
            "$1\r\nab\r\n",
            deep.as_str(),
            endless.as_str(),
        ] {
            assert!(reply(wrong.as_bytes()).is_err(), "{wrong:.40}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in "[+:$*-][0-9-]{0,6}\r\n") {
            let _any = reply(&bytes);
            let _any = reply(&[kind.as_bytes(), &bytes].concat());
        }

        /// A reply that has come in part is no reply yet, and never garbage.
        #[test]
        fn a_reply_in_parts_is_waited_for(words in prop::collection::vec("[a-z\r\n]{0,9}", 0..5), cut in any::<prop::sample::Index>()) {
            // A command is written as a list of texts, and so is a reply.
            let whole = command(words.iter().map(String::as_str));
            prop_assert_eq!(reply(&whole), Ok(Some((Reply::List(words.len()), whole.len()))));
            prop_assert_eq!(reply(&whole[..cut.index(whole.len())]), Ok(None));
        }
    }
}
