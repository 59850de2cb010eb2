//! How settings choose modules by name, as PEFT does it.

use fancy_regex::Regex;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
};

/// A choice of modules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a list of module names, or a regular expression")]
pub enum Modules {
    /// A regular expression that the whole name matches.
    Pattern(String),
    /// Whole names, or what names end with after a dot.
    Names(Vec<String>),
}

impl Modules {
    /// Whether the module `name` is one of them.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::Pattern(pattern) => matches(pattern, name),
            Self::Names(ends) => ends.iter().any(|end| ends_with(name, end)),
        }
    }

    /// Says what is wrong with a regular expression.
    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Self::Pattern(pattern) => compile(pattern).map(drop),
            Self::Names(_) => Ok(()),
        }
    }
}

/// Whether `name` is `end`, or ends with it after a dot.
pub(super) fn ends_with(name: &str, end: &str) -> bool {
    name.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// Layers by number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a layer's number, or a list of them")]
pub enum Layers {
    /// One layer.
    One(usize),
    /// Several; none at all means every layer.
    Many(Vec<usize>),
}

impl Layers {
    /// Whether layer `i` is one of them.
    pub fn contains(&self, i: usize) -> bool {
        match self {
            Self::One(layer) => *layer == i,
            Self::Many(layers) => layers.is_empty() || layers.contains(&i),
        }
    }
}

/// Values for modules whose names end with what a regular expression matches; the first that
/// matches counts, so the order is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Patterns<T>(pub Vec<(String, T)>);

impl<T> Default for Patterns<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Copy> Patterns<T> {
    /// The value for the module `name`. PEFT's `get_pattern_key`: the name, or its end after a dot,
    /// matches the key.
    pub fn get(&self, name: &str) -> Option<T> {
        let fits = |key: &str| matches(&at_the_end(key), name);
        self.0.iter().find(|(key, _)| fits(key)).map(|(_, value)| *value)
    }

    /// Says what is wrong with a key.
    pub(super) fn check(&self) -> Result<(), String> {
        self.0.iter().try_for_each(|(key, _)| compile(&at_the_end(key)).map(drop))
    }
}

fn at_the_end(key: &str) -> String {
    format!(r"(?:.*\.)?(?:{key})")
}

fn compile(pattern: &str) -> Result<Regex, String> {
    let whole = format!(r"\A(?:{pattern})\z");
    Regex::new(&whole).map_err(|e| format!("'{pattern}' is not a regular expression: {e}"))
}

/// A pattern that does not compile matches nothing; `check` has refused it before.
fn matches(pattern: &str, name: &str) -> bool {
    compile(pattern).is_ok_and(|regex| regex.is_match(name).unwrap_or(false))
}

impl<T: Serialize> Serialize for Patterns<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patterns<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Entries<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Patterns<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a map from the ends of module names to numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Patterns(entries))
            }
        }

        from.deserialize_map(Entries(std::marker::PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const Q: &str = "model.layers.1.self_attn.q_proj";

    #[test]
    fn names_match_at_a_dot() {
        let names = |name: &str| Modules::Names(vec![name.into()]).contains(Q);
        assert!(names("q_proj") && names("self_attn.q_proj") && names(Q));
        assert!(!names("proj") && !names("q_pro") && !names("layers.1"));
    }

    #[test]
    fn a_regular_expression_matches_the_whole_name() {
        let pattern = |p: &str| Modules::Pattern(p.into()).contains(Q);
        assert!(pattern(r".*\.(q|v)_proj") && pattern(r".*(?<!mlp)\.q_proj$"));
        assert!(!pattern("q_proj") && !pattern(r"model\.layers\.0.*"));
    }

    /// What `peft.utils.other.get_pattern_key` of PEFT 0.21.2 does with these keys.
    #[test]
    fn the_first_key_that_matches_the_end_counts() {
        let patterns = |keys: &[&str]| {
            Patterns(keys.iter().enumerate().map(|(i, key)| (key.to_string(), i)).collect()).get(Q)
        };
        assert_eq!(patterns(&["k_proj", "q_proj", r".*q_proj"]), Some(1));
        assert_eq!(patterns(&[r"layers\.0\..*", r"layers\.[12]\..*_proj"]), Some(1));
        assert_eq!(patterns(&["proj", "_proj", "attn.q_proj", "layers.1"]), None);
        assert_eq!(patterns(&["^q_proj", "^model.*q_proj"]), Some(1));
        assert_eq!(patterns(&["k_proj|q_proj"]), Some(0));
    }

    #[test]
    fn order_survives() {
        let patterns: Patterns<usize> = serde_json::from_str(r#"{"z":1,"a":2,"m":3}"#).unwrap();
        let keys: Vec<&str> = patterns.0.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["z", "a", "m"]);
        assert_eq!(serde_json::to_string(&patterns).unwrap(), r#"{"z":1,"a":2,"m":3}"#);
    }
}
