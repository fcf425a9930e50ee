//! The little of protobuf that CRIU's messages need: numbers, texts and messages in messages. Not a protobuf library; a
//! test holds the fields to CRIU's own `rpc.proto`.

use crate::{Error, Kind};

/// A field of a message: its number on the wire, and its name in `rpc.proto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field(pub(crate) u32, pub(crate) &'static str);

/// What a field holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// Any of protobuf's integers, enums and booleans; none of ours is negative.
    Number(u64),
    Text(Vec<u8>),
    Message(Message),
}

/// A message: its fields in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Message(pub(crate) Vec<(Field, Value)>);

impl Message {
    pub(crate) fn number(mut self, field: Field, number: impl Into<u64>) -> Self {
        self.0.push((field, Value::Number(number.into())));
        self
    }

    /// Those fields that are set.
    pub(crate) fn flags(mut self, flags: &[(Field, bool)]) -> Self {
        self.0.extend(flags.iter().filter(|(_, set)| *set).map(|(field, _)| (*field, Value::Number(1))));
        self
    }

    pub(crate) fn text(mut self, field: Field, text: impl AsRef<[u8]>) -> Self {
        self.0.push((field, Value::Text(text.as_ref().to_vec())));
        self
    }

    pub(crate) fn message(mut self, field: Field, message: Message) -> Self {
        self.0.push((field, Value::Message(message)));
        self
    }

    /// All that are there, each as a field of this one.
    pub(crate) fn messages(mut self, field: Field, messages: impl IntoIterator<Item = Message>) -> Self {
        self.0.extend(messages.into_iter().map(|message| (field, Value::Message(message))));
        self
    }

    /// The message as bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (Field(number, _), value) in &self.0 {
            let tag = u64::from(*number) << 3;
            match value {
                Value::Number(value) => {
                    varint(&mut bytes, tag);
                    varint(&mut bytes, *value);
                }
                Value::Text(text) => counted(&mut bytes, tag, text),
                Value::Message(message) => counted(&mut bytes, tag, &message.encode()),
            }
        }
        bytes
    }
}

fn counted(bytes: &mut Vec<u8>, tag: u64, content: &[u8]) {
    varint(bytes, tag | 2);
    varint(bytes, content.len() as u64);
    bytes.extend_from_slice(content);
}

fn varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(u8::try_from(value & 0x7f).unwrap_or_default() | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).unwrap_or_default());
}

/// A field that has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of the message in `bytes`, by number. Fixed-width fields, which CRIU has none of, are passed over.
///
/// # Errors
/// The bytes are not a message.
pub(crate) fn fields(mut bytes: &[u8]) -> Result<Vec<(u32, Part<'_>)>, Error> {
    let garbled = || Error::new(Kind::System, "criu's answer is not a protobuf message");
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = read_varint(&mut bytes).ok_or_else(garbled)?;
        let number = u32::try_from(tag >> 3).map_err(|_| garbled())?;
        match tag & 7 {
            0 => found.push((number, Part::Number(read_varint(&mut bytes).ok_or_else(garbled)?))),
            1 => drop(take(&mut bytes, 8).ok_or_else(garbled)?),
            2 => {
                let length = read_varint(&mut bytes).ok_or_else(garbled)?;
                found.push((number, Part::Bytes(take(&mut bytes, length).ok_or_else(garbled)?)));
            }
            5 => drop(take(&mut bytes, 4).ok_or_else(garbled)?),
            _ => return Err(garbled()),
        }
    }
    Ok(found)
}

fn take<'a>(bytes: &mut &'a [u8], length: u64) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    *bytes = rest;
    Some(taken)
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let [byte] = take(bytes, 1)? else { return None };
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{Field, Message, Part, fields};

    const A: Field = Field(1, "a");
    const B: Field = Field(37, "b");

    #[test]
    fn what_is_written_is_read_back() {
        let deep = Message::default().number(A, 300_u64).text(B, "x");
        let message = Message::default().flags(&[(A, true), (B, false)]).text(B, "").message(A, deep);
        let bytes = message.encode();
        assert_eq!(bytes, [8, 1, 0xaa, 2, 0, 10, 7, 8, 0xac, 2, 0xaa, 2, 1, b'x']);
        let read = fields(&bytes).unwrap();
        assert_eq!(read[..2], [(1, Part::Number(1)), (37, Part::Bytes(b""))]);
        let (1, Part::Bytes(deep)) = read[2] else { panic!("{read:?}") };
        assert_eq!(fields(deep).unwrap(), [(1, Part::Number(300)), (37, Part::Bytes(b"x"))]);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bytes in [
            &[8][..],
            &[10, 5, 1],
            &[0x80; 11],
            &[7, 0],
            &[10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        ] {
            assert!(fields(bytes).is_err(), "{bytes:?}");
        }
        assert_eq!(fields(&[13, 0, 0, 0, 0, 8, 1]).unwrap(), [(1, Part::Number(1))]);
    }
}
