//! Sections of a config that are given in part.

use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned, de::Error as _};
use serde_json::{Map, Value};

/// Reads the keys that are given over those of `default`: for a section whose defaults in one place
/// differ from its type's own.
///
/// # Errors
///
/// Those of the type: unknown keys, values of the wrong type.
pub fn over<'de, T, D>(default: &T, given: D) -> Result<T, D::Error>
where
    T: Serialize + DeserializeOwned,
    D: Deserializer<'de>,
{
    let given = Map::<String, Value>::deserialize(given)?;
    let mut all = serde_json::to_value(default).map_err(D::Error::custom)?;
    if let Value::Object(all) = &mut all {
        all.extend(given);
    }
    serde_json::from_value(all).map_err(D::Error::custom)
}
