//! The structural schema of a custom resource, as its own definition states it.
//!
//! A keyword that is not known here is an error, never ignored: it would be a check that silently does not happen.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value as Json;

use super::rules::Rule;

/// What a value must be.
pub(super) struct Schema {
    pub(super) kind: Kind,
    pub(super) default: Option<Json>,
    pub(super) rules: Vec<Rule>,
}

pub(super) enum Kind {
    Object { properties: BTreeMap<String, Schema>, required: Vec<String> },
    Map { values: Box<Schema>, max: usize },
    List { items: Box<Schema>, min: usize, max: usize, unique: Unique },
    String(Text),
    Integer { min: i64, max: i64 },
}

/// What a string must be.
pub(super) struct Text {
    pub(super) min: usize,
    pub(super) max: usize,
    pub(super) pattern: Option<Regex>,
    /// The only values, where there are any.
    pub(super) choices: Vec<String>,
    pub(super) date_time: bool,
}

/// What makes two items of a list the same.
pub(super) enum Unique {
    No,
    Whole,
    Keys(Vec<String>),
}

const KNOWN: [&str; 22] = [
    "additionalProperties",
    "default",
    "description",
    "enum",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minimum",
    "pattern",
    "properties",
    "required",
    "title",
    "type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-validations",
];

impl Schema {
    /// Reads a schema, and compiles its patterns and rules.
    pub(super) fn new(schema: &Json) -> Result<Self, String> {
        let object = schema.as_object().ok_or("a schema must be an object")?;
        if let Some(unknown) = object.keys().find(|key| !KNOWN.contains(&key.as_str())) {
            return Err(format!("schema keyword {unknown} is not supported"));
        }
        let kind = match schema["type"].as_str().unwrap_or_default() {
            "object" if schema["additionalProperties"].is_object() => Kind::Map {
                values: Box::new(Self::new(&schema["additionalProperties"])?),
                max: size(&schema["maxProperties"]).unwrap_or(usize::MAX),
            },
            "object" => Kind::Object {
                properties: match schema["properties"].as_object() {
                    Some(properties) => properties
                        .iter()
                        .map(|(name, schema)| Ok((name.clone(), Self::new(schema)?)))
                        .collect::<Result<_, String>>()?,
                    None => BTreeMap::new(),
                },
                required: strings(&schema["required"]),
            },
            "array" => Kind::List {
                items: Box::new(Self::new(&schema["items"])?),
                min: size(&schema["minItems"]).unwrap_or(0),
                max: size(&schema["maxItems"]).unwrap_or(usize::MAX),
                unique: match schema["x-kubernetes-list-type"].as_str() {
                    Some("set") => Unique::Whole,
                    Some("map") => Unique::Keys(strings(&schema["x-kubernetes-list-map-keys"])),
                    _ => Unique::No,
                },
            },
            "string" => Kind::String(Text {
                min: size(&schema["minLength"]).unwrap_or(0),
                max: size(&schema["maxLength"]).unwrap_or(usize::MAX),
                pattern: match schema["pattern"].as_str() {
                    Some(pattern) => Some(Regex::new(pattern).map_err(|error| error.to_string())?),
                    None => None,
                },
                choices: strings(&schema["enum"]),
                date_time: schema["format"] == "date-time",
            }),
            "integer" => {
                let (least, most) = match schema["format"].as_str() {
                    Some("int32") => (i64::from(i32::MIN), i64::from(i32::MAX)),
                    _ => (i64::MIN, i64::MAX),
                };
                Kind::Integer {
                    min: integer(&schema["minimum"]).unwrap_or(least).max(least),
                    max: integer(&schema["maximum"]).unwrap_or(most).min(most),
                }
            }
            other => return Err(format!("schema type {other:?} is not supported")),
        };
        Ok(Self { kind, default: object.get("default").cloned(), rules: Rule::all(schema)? })
    }

    /// The default of an absent value, with the defaults within it.
    pub(super) fn filled_default(&self) -> Option<Json> {
        let mut value = self.default.clone()?;
        self.fill(&mut value);
        Some(value)
    }

    fn fill(&self, value: &mut Json) {
        if let (Kind::Object { properties, .. }, Json::Object(fields)) = (&self.kind, value) {
            for (name, schema) in properties {
                match fields.get_mut(name) {
                    Some(field) => schema.fill(field),
                    None => {
                        if let Some(default) = schema.filled_default() {
                            fields.insert(name.clone(), default);
                        }
                    }
                }
            }
        }
    }
}

fn strings(list: &Json) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

/// Bounds are floats in Kubernetes' types, and whole numbers in truth.
fn integer(bound: &Json) -> Option<i64> {
    bound.as_i64().or_else(|| bound.as_f64().map(|float| float as i64))
}

fn size(bound: &Json) -> Option<usize> {
    integer(bound).and_then(|bound| usize::try_from(bound).ok())
}
