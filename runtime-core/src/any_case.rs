//! JSON as Go reads it: a key that is no field's name, but one's but for upper and lower case, is that field's
//! (`encoding/json`). Whoever writes `"CPU": {"Quota": 1}` has a limit with runc; passing over it would leave none.
//!
//! A [`Deserializer`] around another. What is not a field of a structure (annotations, sysctls, files of a cgroup) keeps
//! its case. It knows nothing of the specification.

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};
use serde_json::{Map, Value};

/// Reads JSON, the whole of it.
///
/// # Errors
/// It is none, or not of this type.
pub fn read_json<T: DeserializeOwned>(text: &[u8]) -> Result<T, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let read = T::deserialize(AnyCase(&mut json))?;
    json.end().map(|()| read)
}

/// Wraps a deserializer, a visitor, an access or a seed: what comes out of it is wrapped in turn.
#[derive(Debug)]
pub struct AnyCase<T>(pub T);

/// The same, where the keys are those of a structure with these fields.
struct Keys<T>(T, &'static [&'static str]);

impl<T> Keys<T> {
    /// The field that is meant; without one, the key as it is, for the structure to pass over.
    fn meant<'a>(&self, key: &'a str) -> &'a str {
        if self.1.contains(&key) {
            return key;
        }
        self.1.iter().find(|field| field.eq_ignore_ascii_case(key)).copied().unwrap_or(key)
    }
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for AnyCase<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(Keys(visitor, &[]))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_option(Keys(visitor, &[]))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_newtype_struct(name, Keys(visitor, &[]))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_struct(name, fields, Keys(visitor, fields))
    }

    /// The words of an enumeration are exact in Go, too.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_identifier(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_ignored_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map
    }
}

/// Forwards what has no parts.
macro_rules! forward {
    ($($visit:ident: $type:ty),* $(,)?) => {
        $(fn $visit<E: serde::de::Error>(self, value: $type) -> Result<V::Value, E> {
            self.0.$visit(value)
        })*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Keys<V> {
    type Value = V::Value;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.expecting(formatter)
    }

    forward! {
        visit_bool: bool, visit_i64: i64, visit_i128: i128, visit_u64: u64, visit_u128: u128, visit_f64: f64,
        visit_str: &str, visit_borrowed_str: &'de str, visit_string: String,
        visit_bytes: &[u8], visit_borrowed_bytes: &'de [u8], visit_byte_buf: Vec<u8>,
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.0.visit_none()
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.0.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.0.visit_some(AnyCase(inner))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.0.visit_newtype_struct(AnyCase(inner))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, sequence: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(AnyCase(sequence))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(Keys(map, self.1))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, word: A) -> Result<V::Value, A::Error> {
        self.0.visit_enum(word)
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for AnyCase<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_element_seed(AnyCase(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Keys<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_key_seed(Keys(seed, self.1))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(AnyCase(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for AnyCase<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(AnyCase(inner))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Keys<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(Keys(key, self.1))
    }
}

/// A key.
impl<'de, D: Deserializer<'de>> Deserializer<'de> for Keys<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(visitor)
    }

    /// How a structure asks for a key.
    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_identifier(Field(Keys(visitor, self.1)))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum ignored_any
    }
}

/// Visits the field that a key means.
struct Field<V>(Keys<V>);

impl<'de, V: Visitor<'de>> Visitor<'de> for Field<V> {
    type Value = V::Value;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.0.expecting(formatter)
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<V::Value, E> {
        let meant = self.0.meant(key);
        self.0.0.visit_str(meant)
    }
}

/// JSON in which a key comes twice, as Go has it: what comes later goes into what was there, or replaces it. The keys are
/// those of structures, except below the four that are maps.
pub(crate) struct Merged(pub(crate) Value);

/// Fields of the specification whose keys are the user's own.
const MAPS: [&str; 4] = ["annotations", "sysctl", "unified", "rdma"];

impl<'de> Deserialize<'de> for Merged {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(Merger).map(Self)
    }
}

struct Merger;

/// Values that have no parts.
macro_rules! plain {
    ($($visit:ident: $type:ty),*) => {
        $(fn $visit<E: serde::de::Error>(self, value: $type) -> Result<Value, E> {
            Ok(value.into())
        })*
    };
}

impl<'de> Visitor<'de> for Merger {
    type Value = Value;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("JSON")
    }

    plain! { visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Merged(one)) = sequence.next_element()? {
            all.push(one);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if MAPS.iter().any(|name| name.eq_ignore_ascii_case(&key)) {
                all.insert(key, map.next_value()?);
                continue;
            }
            let Merged(value) = map.next_value()?;
            let known = all.iter_mut().find(|(other, _)| other.eq_ignore_ascii_case(&key));
            match known {
                Some((_, known)) => merge(known, value),
                None => drop(all.insert(key, value)),
            }
        }
        Ok(Value::Object(all))
    }
}

fn merge(known: &mut Value, later: Value) {
    match (known, later) {
        (Value::Object(known), Value::Object(later)) => {
            for (key, value) in later {
                match known.iter_mut().find(|(other, _)| other.eq_ignore_ascii_case(&key)) {
                    Some((_, known)) => merge(known, value),
                    None => drop(known.insert(key, value)),
                }
            }
        }
        (known, later) => *known = later,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize as _;
    use serde_json::json;

    use super::{AnyCase, Merged, read_json};
    use crate::oci::{LinuxResources, Spec};

    #[test]
    fn a_field_is_found_in_any_case_and_a_key_of_a_map_keeps_its_own() {
        let text = json!({
            "OCIVersion": "1.3.0",
            "Annotations": { "Some.Key": "1", "some.key": "2" },
            "LINUX": { "Resources": {
                "CPU": { "Cpus": "0", "quota": 5 },
                "pids": { "Limit": 7 },
                "hugepageLimits": [{ "PageSize": "2MB", "Limit": 1 }],
            } },
        });
        let spec = Spec::deserialize(AnyCase(&text)).unwrap();
        assert_eq!(spec.version(), "1.3.0");
        assert_eq!(spec.annotations().as_ref().unwrap().len(), 2);
        let resources = spec.linux().as_ref().unwrap().resources().as_ref().unwrap();
        let cpu = resources.cpu().as_ref().unwrap();
        assert_eq!((cpu.cpus().as_deref(), cpu.quota()), (Some("0"), Some(5)));
        assert_eq!(resources.pids().as_ref().unwrap().limit(), 7);
        let huge = resources.hugepage_limits().as_ref().unwrap().first().unwrap();
        assert_eq!((huge.page_size().as_str(), huge.limit()), ("2MB", 1));
    }

    #[test]
    fn what_comes_twice_is_one_and_the_later_wins_except_in_maps() {
        let text = r#"{"cpu": {"shares": 1, "quota": 2}, "CPU": {"Quota": 3}, "Unified": {"a.b": "1", "A.B": "2"}}"#;
        let Merged(merged) = serde_json::from_str(text).unwrap();
        assert_eq!(merged, json!({ "cpu": { "shares": 1, "quota": 3 }, "Unified": { "a.b": "1", "A.B": "2" } }));
    }

    #[test]
    fn what_is_wrong_is_said_as_without_it() {
        for text in [r#"{"cpu": 1}"#, r#"{"cpu": {"quota": "x"}}"#, r#"{"pids": {"limit": {}}}"#, "1", "{"] {
            let plain = serde_json::from_str::<LinuxResources>(text).unwrap_err().to_string();
            let ours = read_json::<LinuxResources>(text.as_bytes()).unwrap_err().to_string();
            // Where in the line may be a little further.
            let what = |error: &str| error.rsplit_once(" column ").map(|(what, _)| what.to_owned());
            assert_eq!(what(&ours), what(&plain), "{text}");
        }
    }
}
