//! One question and its answer as bytes (RFC 1035, section 4). Nothing is looked at but what the probe reports, and every length in an
//! answer is doubted: it comes from whoever holds the port.

use squall_experiments::probe::RecordType;

/// Of a message; the id is the first two bytes.
const HEADER_BYTES: usize = 12;

/// What of an answer's flags is read.
const IS_ANSWER: u16 = 1 << 15;
const IS_TRUNCATED: u16 = 1 << 9;
const CODE: u16 = 0b1111;

/// In a question: please resolve it for me.
const RECURSION_DESIRED: u16 = 1 << 8;

/// The Internet, the only class in use.
const CLASS: u16 = 1;

/// What an answer says, without what its records say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    /// The response code.
    pub(super) code: u16,
    /// It did not fit; the number of its records means nothing then.
    pub(super) truncated: bool,
    /// How many records are of the type that was asked for.
    pub(super) records: u32,
    /// How many are of another type: aliases on the way.
    pub(super) others: u32,
}

/// Why bytes are not an answer to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Garbage {
    #[error("the answer is not a DNS message: it ends in the middle")]
    Short,
    #[error("the answer is not a DNS message: it is a question itself")]
    Question,
    #[error("the answer carries another question's id")]
    OtherId,
    #[error("the answer is to another question")]
    OtherQuestion,
    #[error("the answer is not a DNS message: it has a broken name in it")]
    Name,
}

/// The bytes that ask. `name` has been checked: letters, digits, `-`, `_` and dots, labels up to 63 letters.
pub(super) fn question(id: u16, name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER_BYTES + name.len() + 6);
    // Id, flags, one question; no answers, authorities or additions.
    for field in [id, RECURSION_DESIRED, 1, 0, 0, 0] {
        message.extend(field.to_be_bytes());
    }
    for label in name.split('.') {
        // A longer label cannot come through the language; one that did would ask for less, and fail.
        let label = &label.as_bytes()[..label.len().min(63)];
        message.extend(u8::try_from(label.len()));
        message.extend(label);
    }
    message.push(0);
    message.extend(kind.number().to_be_bytes());
    message.extend(CLASS.to_be_bytes());
    message
}

/// Reads an answer to `question`.
pub(super) fn read(message: &[u8], question: &[u8], kind: RecordType) -> Result<Answer, Garbage> {
    let mut rest = Reader { rest: message };
    let (id, flags) = (rest.u16()?, rest.u16()?);
    let (questions, answers) = (rest.u16()?, rest.u16()?);
    let (_authorities, _additions) = (rest.u16()?, rest.u16()?);
    if id.to_be_bytes() != question[..2] {
        return Err(Garbage::OtherId);
    }
    if flags & IS_ANSWER == 0 {
        return Err(Garbage::Question);
    }
    let code = flags & CODE;
    let truncated = flags & IS_TRUNCATED != 0;
    let (mut records, mut others) = (0, 0);
    // A server that could not read the question need not repeat it; and what was cut off may be anything.
    let refused = code != 0 && questions == 0;
    if !refused {
        let asked = &question[HEADER_BYTES..];
        let repeated = rest.take(asked.len())?;
        // Letters come back in any case (RFC 1035, section 2.3.3); no length and no type is one.
        if questions != 1 || !repeated.eq_ignore_ascii_case(asked) {
            return Err(Garbage::OtherQuestion);
        }
    }
    if !truncated && code == 0 {
        for _ in 0..answers {
            let is_wanted = rest.record()? == (kind.number(), CLASS);
            *(if is_wanted { &mut records } else { &mut others }) += 1;
        }
    }
    Ok(Answer {
        code,
        truncated,
        records,
        others,
    })
}

struct Reader<'m> {
    rest: &'m [u8],
}

impl<'m> Reader<'m> {
    fn take(&mut self, bytes: usize) -> Result<&'m [u8], Garbage> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(Garbage::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn u16(&mut self) -> Result<u16, Garbage> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// Steps over a record; its type and class.
    fn record(&mut self) -> Result<(u16, u16), Garbage> {
        self.name()?;
        let (kind, class) = (self.u16()?, self.u16()?);
        let _ttl = self.take(4)?;
        let length = self.u16()?;
        self.take(usize::from(length))?;
        Ok((kind, class))
    }

    /// Steps over a name. Pointers into what came before end it, and are not followed: there is nothing to loop in.
    fn name(&mut self) -> Result<(), Garbage> {
        loop {
            let length = self.take(1)?[0];
            match length {
                0 => return Ok(()),
                1..=63 => self.take(usize::from(length))?,
                0xc0.. => return self.take(1).map(|_| ()),
                _ => return Err(Garbage::Name),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KIND: RecordType = RecordType::A;

    fn asked() -> Vec<u8> {
        question(0x1234, "Orders.shop", KIND)
    }

    /// The question as an answer with these flags, and records of these types behind it.
    fn answer(flags: u16, types: &[u16]) -> Vec<u8> {
        let mut message = asked();
        message[2..4].copy_from_slice(&(flags | IS_ANSWER).to_be_bytes());
        message[6..8].copy_from_slice(&u16::try_from(types.len()).unwrap().to_be_bytes());
        for kind in types {
            message.extend([0xc0, 12]);
            message.extend(kind.to_be_bytes());
            message.extend([0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 1]);
        }
        message
    }

    #[test]
    fn a_question_is_what_the_standard_says() {
        let bytes = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x06Orders\x04shop\0\0\x01\0\x01";
        assert_eq!(asked(), bytes);
    }

    #[test]
    fn records_are_counted_by_type() {
        let read = |message: &[u8]| read(message, &asked(), KIND);
        let found = read(&answer(0, &[5, 1, 1])).unwrap();
        assert_eq!((found.code, found.records, found.others), (0, 2, 1));
        let lower: Vec<u8> = answer(0, &[1]).to_ascii_lowercase();
        assert_eq!(read(&lower).unwrap().records, 1);
        assert_eq!(read(&answer(3, &[])).unwrap().code, 3);
        assert!(read(&answer(IS_TRUNCATED, &[])).unwrap().truncated);
    }

    #[test]
    fn what_is_no_answer_is_told_apart() {
        let read = |message: &[u8]| read(message, &asked(), KIND);
        assert_eq!(read(&asked()), Err(Garbage::Question));
        assert_eq!(read(b"hello"), Err(Garbage::Short));
        let mut other = answer(0, &[1]);
        other[0] ^= 1;
        assert_eq!(read(&other), Err(Garbage::OtherId));
        let mut other = answer(0, &[1]);
        other[HEADER_BYTES + 1] = b'p';
        assert_eq!(read(&other), Err(Garbage::OtherQuestion));
        let whole = answer(0, &[1]);
        assert_eq!(read(&whole[..whole.len() - 1]), Err(Garbage::Short));
        let mut broken = whole;
        broken[asked().len()] = 0x80;
        assert_eq!(read(&broken), Err(Garbage::Name));
        // A server that understood nothing repeats nothing.
        let mut bare = answer(1, &[]);
        bare.truncate(HEADER_BYTES);
        bare[4..6].copy_from_slice(&[0, 0]);
        assert_eq!(read(&bare).unwrap().code, 1);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _any = read(&bytes, &asked(), KIND);
        }

        /// Bytes that get as far as the records: what is cut off or changed never counts more records than it promises.
        #[test]
        fn a_damaged_answer_never_grows(
            types in prop::collection::vec(prop::sample::select(vec![1_u16, 5, 28]), 0..8),
            cut in any::<prop::sample::Index>(),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut message = answer(0, &types);
            let at = at.index(message.len());
            message[at] = byte;
            message.truncate(cut.index(message.len()) + 1);
            if let Ok(found) = read(&message, &asked(), KIND) {
                let promised = u16::from_be_bytes([message[6], message[7]]);
                prop_assert!(found.records + found.others <= u32::from(promised));
            }
        }
    }
}
