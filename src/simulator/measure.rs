//! The texts of a prompt: their length, and what the last one says.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// How many characters of the prompt an answer repeats.
const ECHO: usize = 40;

/// The measure of a text, however deep it is wrapped (`"…"`, `{"content": …}`, `{"parts": [{"text": …}]}`).
#[derive(Debug, Default)]
pub(super) struct Text {
    pub(super) texts: Vec<String>,
}

impl Text {
    /// The beginning of the last text.
    pub(super) fn echo(&self) -> String {
        self.texts.last().map_or_else(String::new, |text| text.chars().take(ECHO).collect())
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut text = Text::default();
        Measure(&mut text).deserialize(deserializer)?;
        Ok(text)
    }
}

/// Whether text is to be found under a name.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Name {
    #[serde(alias = "content", alias = "parts")]
    Text,
    #[serde(other)]
    Other,
}

/// Walks through any JSON and adds what it finds to a [`Text`].
struct Measure<'t>(&'t mut Text);

impl<'de> DeserializeSeed<'de> for Measure<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Measure<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, or a list or an object with text in it")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.texts.push(text.to_owned());
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Measure(&mut *self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Name>()? {
            if name == Name::Text {
                map.next_value_seed(Measure(&mut *self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}
