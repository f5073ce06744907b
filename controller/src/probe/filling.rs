//! Bodies that are filled anew for every request.

use super::ProbeError;
use hyper::body::Bytes;
use squall_experiments::template::{self, Piece};
use std::fmt::Write as _;
use std::io::Read;

/// So much data is read into memory: some hundred thousand customers.
const DATA_BYTES_MAX: u64 = 16 << 20;

/// A body, ready to be filled.
#[derive(Debug)]
pub(super) enum Body {
    Fixed(Bytes),
    Filled {
        pieces: Vec<Part>,
        rows: Vec<csv::StringRecord>,
    },
}

/// A piece whose column has been looked up.
#[derive(Debug)]
pub(super) enum Part {
    Text(String),
    Seq,
    Uuid,
    Column(usize),
}

impl Body {
    pub(super) fn new(probe: &str, text: &str, data: Option<&str>) -> Result<Self, ProbeError> {
        let bad = |why: String| ProbeError::Data {
            probe: probe.to_owned(),
            path: data.unwrap_or("the body").to_owned(),
            why,
        };
        let pieces = template::parse(text).map_err(|error| bad(error.to_string()))?;
        if pieces.iter().all(|piece| matches!(piece, Piece::Text(_))) {
            return Ok(Self::Fixed(Bytes::from(text.to_owned())));
        }
        let (columns, rows) = match data {
            Some(path) => read(path).map_err(bad)?,
            None => (csv::StringRecord::new(), Vec::new()),
        };
        let part = |piece: Piece| {
            Ok(match piece {
                Piece::Text(text) => Part::Text(text),
                Piece::Seq => Part::Seq,
                Piece::Uuid => Part::Uuid,
                Piece::Csv(wanted) => {
                    let place = columns.iter().position(|column| column == wanted);
                    Part::Column(place.ok_or_else(|| {
                        let known: Vec<&str> = columns.iter().collect();
                        bad(format!(
                            "it has no column `{wanted}`, only {}",
                            known.join(", ")
                        ))
                    })?)
                }
            })
        };
        let pieces = pieces.into_iter().map(part).collect::<Result<_, _>>()?;
        Ok(Self::Filled { pieces, rows })
    }

    /// The body of the request with this number, from 1.
    pub(super) fn fill(&self, number: u64) -> Bytes {
        let (pieces, rows) = match self {
            Self::Fixed(bytes) => return bytes.clone(),
            Self::Filled { pieces, rows } => (pieces, rows),
        };
        let turn = number.saturating_sub(1) % (rows.len() as u64).max(1);
        let row = usize::try_from(turn).ok().and_then(|turn| rows.get(turn));
        let mut text = String::new();
        for piece in pieces {
            // Writing to a String cannot fail.
            let _ = match piece {
                Part::Text(part) => text.write_str(part),
                Part::Seq => write!(text, "{number}"),
                Part::Uuid => text.write_str(&uuid(rand::random())),
                Part::Column(at) => {
                    let value = row.and_then(|row| row.get(*at));
                    text.write_str(value.unwrap_or_default())
                }
            };
        }
        Bytes::from(text)
    }
}

/// The columns' names, and the rows.
fn read(path: &str) -> Result<(csv::StringRecord, Vec<csv::StringRecord>), String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    if length > DATA_BYTES_MAX {
        let most = DATA_BYTES_MAX >> 20;
        return Err(format!("it is longer than {most} MiB; use a part of it"));
    }
    let mut reader = csv::Reader::from_reader(file.take(DATA_BYTES_MAX));
    let columns = reader.headers().map_err(|error| error.to_string())?.clone();
    let rows: Result<Vec<_>, _> = reader.records().collect();
    let rows = rows.map_err(|error| error.to_string())?;
    if rows.is_empty() {
        return Err("it has no rows below the line with the columns' names".into());
    }
    Ok((columns, rows))
}

/// RFC 9562, version 4.
fn uuid(random: u128) -> String {
    const VERSION_4: u128 = 0x4 << 76;
    const VARIANT: u128 = 0b10 << 62;
    let bits = random & !(0xf << 76) & !(0b11 << 62) | VERSION_4 | VARIANT;
    let hex = format!("{bits:032x}");
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32];
    let parts = parts.map(|part| hex.get(part).unwrap_or_default().to_owned());
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str, data: &str, number: u64) -> Result<String, ProbeError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.csv");
        std::fs::write(&path, data).unwrap();
        let body = Body::new("p", text, Some(&path.display().to_string()))?;
        Ok(String::from_utf8(body.fill(number).to_vec()).unwrap())
    }

    #[test]
    fn bodies_are_filled_row_after_row() {
        let (text, data) = ("{{seq}} {{csv.who}}", "id,who\n1,Ann\n2,\"Bob, jr\"\n");
        assert_eq!(filled(text, data, 1).unwrap(), "1 Ann");
        assert_eq!(filled(text, data, 2).unwrap(), "2 Bob, jr");
        assert_eq!(filled(text, data, 3).unwrap(), "3 Ann");
        let one = filled("{{uuid}}", data, 1).unwrap();
        let parts: Vec<usize> = one.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert_eq!(uuid(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(uuid(0), "00000000-0000-4000-8000-000000000000");
        assert_ne!(one, filled("{{uuid}}", data, 1).unwrap());
    }

    #[test]
    fn data_that_is_not_there_is_told() {
        let why = |text: &str, data: &str| filled(text, data, 1).unwrap_err().to_string();
        assert!(why("{{csv.who}}", "id,name\n1,a\n").contains("no column `who`, only id, name"));
        assert!(why("{{csv.id}}", "id\n").contains("no rows"));
        assert!(why("{{csv.id}}", "id\n1,2\n").contains("fields"));
        let gone = Body::new("p", "{{csv.id}}", Some("/no/such.csv")).unwrap_err();
        assert!(gone.to_string().contains("/no/such.csv"), "{gone}");
    }
}
