//! D-Bus messages as bytes: what a call to the service manager needs, and what its answers and signals hold. Little
//! endian, as every machine tare runs on. It knows no socket and no unit.
//!
//! SECURITY: what comes in is read with bounds everywhere; a message that is not whole is `None`.

use tare_plan::systemd::{Property, Value};

/// What kind of message it is.
pub(super) mod kind {
    pub(in super::super) const CALL: u8 = 1;
    pub(in super::super) const RETURN: u8 = 2;
    pub(in super::super) const ERROR: u8 = 3;
    pub(in super::super) const SIGNAL: u8 = 4;
}

/// The header fields that are written or looked at.
mod field {
    pub(super) const PATH: u8 = 1;
    pub(super) const INTERFACE: u8 = 2;
    pub(super) const MEMBER: u8 = 3;
    pub(super) const ERROR_NAME: u8 = 4;
    pub(super) const REPLY_SERIAL: u8 = 5;
    pub(super) const DESTINATION: u8 = 6;
    pub(super) const SENDER: u8 = 7;
    pub(super) const SIGNATURE: u8 = 8;
}

/// The part of every message that says how long the rest is.
pub(super) const START: usize = 16;
const LITTLE: u8 = b'l';
const PROTOCOL: u8 = 1;

/// A call to be sent.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
    /// The types of the body.
    pub(super) signature: &'a str,
    pub(super) body: Body,
}

impl Call<'_> {
    /// `None` when it is too long for a message.
    pub(super) fn to_bytes(&self, serial: u32) -> Option<Vec<u8>> {
        let mut message = Body(vec![LITTLE, kind::CALL, 0, PROTOCOL]);
        message.word(u32::try_from(self.body.0.len()).ok()?);
        message.word(serial);
        message.array(8, |fields| {
            let texts = [
                (field::PATH, "o", self.path),
                (field::INTERFACE, "s", self.interface),
                (field::MEMBER, "s", self.member),
                (field::DESTINATION, "s", self.destination),
            ];
            for (number, kind, text) in texts {
                fields.align(8);
                fields.0.push(number);
                fields.signature(kind)?;
                fields.text(text)?;
            }
            if !self.signature.is_empty() {
                fields.align(8);
                fields.0.push(field::SIGNATURE);
                fields.signature("g")?;
                fields.signature(self.signature)?;
            }
            Some(())
        })?;
        message.align(8);
        message.0.extend_from_slice(&self.body.0);
        Some(message.0)
    }
}

/// Values as they are written, one after the other. It begins at a multiple of eight, so that it may be aligned by itself.
#[derive(Debug, Default)]
pub(super) struct Body(Vec<u8>);

impl Body {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    pub(super) fn word(&mut self, word: u32) {
        self.align(4);
        self.0.extend_from_slice(&word.to_le_bytes());
    }

    fn long(&mut self, bytes: [u8; 8]) {
        self.align(8);
        self.0.extend_from_slice(&bytes);
    }

    pub(super) fn text(&mut self, text: &str) -> Option<()> {
        self.word(u32::try_from(text.len()).ok()?);
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
        Some(())
    }

    fn signature(&mut self, text: &str) -> Option<()> {
        self.0.push(u8::try_from(text.len()).ok()?);
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
        Some(())
    }

    /// The length before an array counts neither itself nor the padding up to the first element.
    fn array(&mut self, align: usize, elements: impl FnOnce(&mut Self) -> Option<()>) -> Option<()> {
        self.word(0);
        let length = self.0.len();
        self.align(align);
        let first = self.0.len();
        elements(self)?;
        let bytes = u32::try_from(self.0.len() - first).ok()?.to_le_bytes();
        self.0.get_mut(length - 4..length)?.copy_from_slice(&bytes);
        Some(())
    }

    pub(super) fn words(&mut self, words: &[u32]) -> Option<()> {
        self.array(4, |array| {
            words.iter().for_each(|word| array.word(*word));
            Some(())
        })
    }

    /// `a(sv)`
    pub(super) fn properties(&mut self, properties: &[Property]) -> Option<()> {
        self.array(8, |array| {
            properties.iter().try_for_each(|property| {
                array.align(8);
                array.text(&property.name)?;
                array.variant(&property.value)
            })
        })
    }

    /// An array without elements, of structures.
    pub(super) fn nothing(&mut self) -> Option<()> {
        self.array(8, |_| Some(()))
    }

    fn variant(&mut self, value: &Value) -> Option<()> {
        self.signature(signature(value))?;
        match value {
            Value::Flag(flag) => self.word(u32::from(*flag)),
            Value::Byte(byte) => self.0.push(*byte),
            Value::Int(number) => self.word(number.cast_unsigned()),
            Value::Word(number) => self.word(*number),
            Value::Long(number) => self.long(number.to_le_bytes()),
            Value::Number(number) => self.long(number.to_le_bytes()),
            Value::Real(number) => self.long(number.to_le_bytes()),
            Value::Text(text) => self.text(text)?,
            Value::Texts(texts) => self.array(4, |array| texts.iter().try_for_each(|text| array.text(text)))?,
            Value::Bits(bytes) => self.array(1, |array| {
                array.0.extend_from_slice(bytes);
                Some(())
            })?,
            Value::Words(words) => self.words(words)?,
        }
        Some(())
    }
}

fn signature(value: &Value) -> &'static str {
    match value {
        Value::Flag(_) => "b",
        Value::Byte(_) => "y",
        Value::Int(_) => "i",
        Value::Word(_) => "u",
        Value::Long(_) => "x",
        Value::Number(_) => "t",
        Value::Real(_) => "d",
        Value::Text(_) => "s",
        Value::Texts(_) => "as",
        Value::Bits(_) => "ay",
        Value::Words(_) => "au",
    }
}

/// A message that has come in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: u8,
    /// The call that it answers.
    pub(super) reply_to: u32,
    pub(super) member: String,
    pub(super) error: String,
    pub(super) sender: String,
    signature: String,
    body: Vec<u8>,
}

impl Message {
    /// How many bytes follow the first [`START`].
    pub(super) fn rest(start: &[u8; START]) -> Option<usize> {
        let mut reader = Reader { bytes: start, at: 0 };
        if reader.byte()? != LITTLE {
            return None;
        }
        reader.at = 4;
        let body = reader.length()?;
        reader.at = 12;
        reader.length()?.checked_next_multiple_of(8)?.checked_add(body)
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader { bytes, at: 1 };
        let mut message = Self { kind: reader.byte()?, ..Self::default() };
        reader.at = 12;
        let end = reader.length()?.checked_add(START)?;
        while reader.at < end {
            reader.align(8)?;
            let number = reader.byte()?;
            match reader.signature()? {
                "s" | "o" => {
                    let text = reader.text()?;
                    match number {
                        field::MEMBER => text.clone_into(&mut message.member),
                        field::ERROR_NAME => text.clone_into(&mut message.error),
                        field::SENDER => text.clone_into(&mut message.sender),
                        _ => {}
                    }
                }
                "g" => reader.signature()?.clone_into(&mut message.signature),
                "u" => {
                    let word = reader.word()?;
                    if number == field::REPLY_SERIAL {
                        message.reply_to = word;
                    }
                }
                _ => return None,
            }
        }
        reader.align(8)?;
        reader.bytes.get(reader.at..)?.clone_into(&mut message.body);
        Some(message)
    }

    /// The body when it begins with one text or object path: a job, or the words of an error.
    pub(super) fn text(&self) -> Option<&str> {
        let mut reader = Reader { bytes: &self.body, at: 0 };
        if self.signature.starts_with(['s', 'o']) { reader.text() } else { None }
    }

    /// The text in a variant: a property.
    pub(super) fn variant_text(&self) -> Option<&str> {
        let mut reader = Reader { bytes: &self.body, at: 0 };
        if self.signature == "v" && reader.signature()? == "s" { reader.text() } else { None }
    }

    /// The job and the outcome that a `JobRemoved` (`uoss`) tells.
    pub(super) fn job_removed(&self) -> Option<(&str, &str)> {
        if self.kind != kind::SIGNAL || self.member != "JobRemoved" || self.signature != "uoss" {
            return None;
        }
        let mut reader = Reader { bytes: &self.body, at: 0 };
        reader.word()?;
        let job = reader.text()?;
        reader.text()?;
        Some((job, reader.text()?))
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn align(&mut self, to: usize) -> Option<()> {
        self.at = self.at.checked_next_multiple_of(to)?;
        (self.at <= self.bytes.len()).then_some(())
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn word(&mut self) -> Option<u32> {
        self.align(4)?;
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(self.word()?).ok()
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = self.length()?;
        let text = self.take(length)?;
        self.take(1)?;
        std::str::from_utf8(text).ok()
    }

    fn signature(&mut self) -> Option<&'a str> {
        let length = usize::from(self.byte()?);
        let text = self.take(length)?;
        self.take(1)?;
        std::str::from_utf8(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message as `busctl` writes it, taken apart by hand from the D-Bus specification.
    #[test]
    fn a_call_is_written_as_the_specification_lays_it_out() {
        let mut body = Body::default();
        body.text("a.scope").expect("short");
        body.word(1);
        let property = Property { name: "MemoryMax".into(), value: Value::Number(7) };
        body.properties(&[property]).expect("short");
        let call = Call { destination: "d", path: "/p", interface: "i", member: "m", signature: "sba(sv)", body };
        let bytes = call.to_bytes(3).expect("short");
        let mut expected = b"l\x01\x00\x01".to_vec();
        let body: &[u8] = b"\x07\0\0\0a.scope\0\x01\0\0\0\x20\0\0\0\0\0\0\0\x09\0\0\0MemoryMax\0\x01t\0\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0";
        expected.extend(u32::try_from(body.len()).expect("short").to_le_bytes());
        expected.extend([3, 0, 0, 0]);
        let fields: &[u8] = b"\x01\x01o\0\x02\0\0\0/p\0\0\0\0\0\0\x02\x01s\0\x01\0\0\0i\0\0\0\0\0\0\0\
            \x03\x01s\0\x01\0\0\0m\0\0\0\0\0\0\0\x06\x01s\0\x01\0\0\0d\0\0\0\0\0\0\0\x08\x01g\0\x07sba(sv)\0";
        expected.extend(u32::try_from(fields.len()).expect("short").to_le_bytes());
        expected.extend(fields);
        expected.resize(expected.len().next_multiple_of(8), 0);
        expected.extend(body);
        assert_eq!(bytes, expected);
    }

    fn signal() -> Vec<u8> {
        let mut body = Body::default();
        body.word(42);
        for text in ["/org/freedesktop/systemd1/job/42", "a.scope", "done"] {
            body.text(text).expect("short");
        }
        let call = Call { destination: "d", path: "/p", interface: "i", member: "JobRemoved", signature: "uoss", body };
        let mut bytes = call.to_bytes(1).expect("short");
        bytes[1] = kind::SIGNAL;
        bytes
    }

    #[test]
    fn a_signal_is_read_back() {
        let bytes = signal();
        let start: &[u8; START] = bytes.first_chunk().expect("a start");
        assert_eq!(Message::rest(start), Some(bytes.len() - START));
        let message = Message::parse(&bytes).expect("a message");
        assert_eq!(message.job_removed(), Some(("/org/freedesktop/systemd1/job/42", "done")));
        assert_eq!(message.text(), None, "it begins with a number");
    }

    #[test]
    fn a_message_that_is_cut_or_garbled_is_not_read_beyond_its_end() {
        let whole = signal();
        for length in 0..whole.len() {
            let cut = Message::parse(&whole[..length]);
            assert!(cut.is_none_or(|message| message.job_removed().is_none()), "{length} bytes");
        }
        for at in 0..whole.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut garbled = whole.clone();
                garbled[at] = byte;
                // Whatever it is read as, it is read without a panic.
                let _ = Message::parse(&garbled).map(|message| message.job_removed().is_some());
            }
        }
        let huge = b"l\x04\0\x01\xff\xff\xff\xff\x01\0\0\0\xff\xff\xff\xff";
        assert!(Message::rest(huge).is_none_or(|rest| rest > 1 << 32));
        assert_eq!(Message::rest(b"B\x04\0\x01\0\0\0\0\x01\0\0\0\0\0\0\0"), None);
    }
}
