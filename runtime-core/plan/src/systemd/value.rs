//! The value of a property, and the text form in which an annotation has it: GVariant's, as far as units have values of
//! such types. Containers of containers are not read.

/// A value with the type that systemd expects on the bus.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `b`
    Flag(bool),
    /// `y`
    Byte(u8),
    /// `i`
    Int(i32),
    /// `u`
    Word(u32),
    /// `x`
    Long(i64),
    /// `t`
    Number(u64),
    /// `d`
    Real(f64),
    /// `s`
    Text(String),
    /// `as`
    Texts(Vec<String>),
    /// `ay`: a set of cpus or memory nodes, the lowest in the lowest bit of the first byte.
    Bits(Vec<u8>),
    /// `au`: processes.
    Words(Vec<u32>),
}

impl Value {
    /// Reads GVariant's text form: `'text'`, `true`, `3`, `uint64 3`, `@t 3`, `['a', 'b']`. A number without a type is an
    /// `i`, or a `d` with a point in it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some(typed) = text.strip_prefix('@') {
            let (kind, rest) = typed.split_once(' ').ok_or("a type without a value")?;
            return typed_value(kind, rest.trim());
        }
        match text.split_once(' ') {
            Some((word, rest)) if word.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                let kind =
                    TYPES.iter().find(|(name, _)| *name == word).ok_or_else(|| format!("{word:?} is no type"))?;
                typed_value(kind.1, rest.trim())
            }
            _ => untyped(text),
        }
    }

    /// As microseconds, when it is a number of seconds.
    pub(super) fn seconds_as_micro(&self) -> Result<u64, String> {
        let whole = match self {
            Self::Byte(number) => Some(u64::from(*number)),
            Self::Int(number) => u64::try_from(*number).ok(),
            Self::Word(number) => Some(u64::from(*number)),
            Self::Long(number) => u64::try_from(*number).ok(),
            Self::Number(number) => Some(*number),
            Self::Real(number) => return micro(*number),
            _ => return Err("seconds are a number".to_owned()),
        };
        whole.and_then(|seconds| seconds.checked_mul(1_000_000)).ok_or_else(|| "is out of range".to_owned())
    }
}

/// GVariant's type words and the types they stand for.
const TYPES: [(&str, &str); 7] = [
    ("boolean", "b"),
    ("byte", "y"),
    ("int32", "i"),
    ("uint32", "u"),
    ("int64", "x"),
    ("uint64", "t"),
    ("double", "d"),
];

fn typed_value(kind: &str, text: &str) -> Result<Value, String> {
    let wrong = || format!("{text:?} is not of type {kind:?}");
    match kind {
        "b" => text.parse().map(Value::Flag).map_err(|_| wrong()),
        "y" => whole(text).and_then(|number| u8::try_from(number).ok()).map(Value::Byte).ok_or_else(wrong),
        "i" => whole(text).and_then(|number| i32::try_from(number).ok()).map(Value::Int).ok_or_else(wrong),
        "u" => whole(text).and_then(|number| u32::try_from(number).ok()).map(Value::Word).ok_or_else(wrong),
        "x" => whole(text).and_then(|number| i64::try_from(number).ok()).map(Value::Long).ok_or_else(wrong),
        "t" => whole(text).and_then(|number| u64::try_from(number).ok()).map(Value::Number).ok_or_else(wrong),
        "d" => real(text).map(Value::Real).ok_or_else(wrong),
        "s" => match untyped(text)? {
            value @ Value::Text(_) => Ok(value),
            _ => Err(wrong()),
        },
        "as" => list(text),
        _ => Err(format!("values of type {kind:?} are not supported")),
    }
}

fn untyped(text: &str) -> Result<Value, String> {
    match text.bytes().next() {
        None => Err("there is no value".to_owned()),
        Some(b'\'' | b'"') => match quoted(text)? {
            (value, "") => Ok(Value::Text(value)),
            (_, rest) => Err(format!("{rest:?} follows the value")),
        },
        Some(b'[') => list(text),
        Some(_) if text == "true" || text == "false" => Ok(Value::Flag(text == "true")),
        Some(_) => match whole(text) {
            Some(number) => i32::try_from(number).map(Value::Int).map_err(|_| format!("{text:?} needs its type")),
            None => real(text).map(Value::Real).ok_or_else(|| format!("{text:?} is not a value")),
        },
    }
}

fn list(text: &str) -> Result<Value, String> {
    let mut rest = text.strip_prefix('[').ok_or("a list begins with [")?.trim_start();
    let mut texts = Vec::new();
    while !rest.starts_with(']') {
        let (value, after) = quoted(rest)?;
        texts.push(value);
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start(),
            None if rest.starts_with(']') => {}
            None => return Err("a list has commas and ends with ]".to_owned()),
        }
    }
    if rest == "]" { Ok(Value::Texts(texts)) } else { Err(format!("{rest:?} follows the value")) }
}

/// A text in single or double quotes at the beginning, and what follows.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let quote = text.chars().next().filter(|first| matches!(first, '\'' | '"')).ok_or("a text has quotes")?;
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, char)) = chars.next() {
        match char {
            _ if char == quote => return Ok((value, text.get(at + 1..).unwrap_or_default())),
            '\\' => value.push(match chars.next() {
                Some((_, 'n')) => '\n',
                Some((_, 't')) => '\t',
                Some((_, same @ ('\\' | '\'' | '"'))) => same,
                _ => return Err("an escape that is not known".to_owned()),
            }),
            '\0' => return Err("a text has no NUL".to_owned()),
            char => value.push(char),
        }
    }
    Err("a text without its closing quote".to_owned())
}

/// A number in decimal, or in hexadecimal after `0x`.
fn whole(text: &str) -> Option<i128> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let (digits, radix) = digits.strip_prefix("0x").map_or((digits, 10), |digits| (digits, 16));
    let plain = digits.len() <= 20 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    Some(sign * i128::from_str_radix(digits, radix).ok().filter(|_| plain)?)
}

fn real(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || b".-+eE".contains(&byte));
    text.parse().ok().filter(|number: &f64| plain && number.is_finite())
}

/// Through text, since there is no cast that cannot lose a bit.
fn micro(seconds: f64) -> Result<u64, String> {
    format!("{:.0}", seconds * 1_000_000.0).parse().map_err(|_| "is out of range".to_owned())
}
