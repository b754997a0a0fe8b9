//! What Kubernetes' schemas need and schemars does not derive: CEL rules, strings that are CIDRs, and no nulls.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema, transform};
use serde::Serialize;
use serde_json::{Value, json};

/// One entry of `x-kubernetes-validations`. (kube has a type of this name, but it cannot hold both a message and a
/// message expression; with an expression alone a user who hits its error sees the bare rule.)
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rule {
    rule: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_expression: Option<&'static str>,
    message: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field_path: Option<&'static str>,
}

impl Rule {
    pub(crate) fn new(rule: &'static str, message: &'static str) -> Self {
        Self { rule, message_expression: None, message, reason: None, field_path: None }
    }

    pub(crate) fn expression(self, message_expression: &'static str) -> Self {
        Self { message_expression: Some(message_expression), ..self }
    }

    pub(crate) fn at(self, field_path: &'static str) -> Self {
        Self { field_path: Some(field_path), ..self }
    }

    pub(crate) fn required(self) -> Self {
        Self { reason: Some("FieldValueRequired"), ..self }
    }

    pub(crate) fn forbidden(self) -> Self {
        Self { reason: Some("FieldValueForbidden"), ..self }
    }
}

/// The schema of a whole object. Written here and not derived, because the derived one makes `status` nullable and
/// gives it no default: a new object would then have no conditions, and health checks take that for healthy.
pub(crate) fn root<Spec: JsonSchema>(
    generator: &mut SchemaGenerator,
    description: &str,
    status: Option<Schema>,
    rules: &[Rule],
) -> Schema {
    let mut schema = json_schema!({
        "type": "object",
        "description": description,
        "required": ["spec"],
        "properties": { "spec": generator.subschema_for::<Spec>() },
    });
    if let Some(mut status) = status {
        status.insert("default".into(), json!({}));
        if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            properties.insert("status".into(), status.to_value());
        }
    }
    if !rules.is_empty() {
        schema.insert("x-kubernetes-validations".into(), json!(rules));
    }
    transform::Transform::transform(&mut Plain, &mut schema);
    schema
}

/// Makes a schema plain: an absent optional field is left out, never null (the API server treats the two
/// differently), and integers have one of the two formats that Kubernetes knows.
struct Plain;

impl transform::Transform for Plain {
    fn transform(&mut self, schema: &mut Schema) {
        transform::transform_subschemas(self, schema);
        let Some(object) = schema.as_object_mut() else {
            return;
        };
        if let Some(Value::Array(any_of)) = object.get("anyOf")
            && let [Value::Object(some), null] = any_of.as_slice()
            && null.get("type") == Some(&json!("null"))
        {
            let some = some.clone();
            object.remove("anyOf");
            // The field's own description wins over that of its type.
            for (key, value) in some {
                object.entry(key).or_insert(value);
            }
        }
        if let Some(Value::Array(types)) = object.get_mut("type") {
            types.retain(|t| t != "null");
            if let [one] = types.as_slice() {
                let one = one.clone();
                object.insert("type".into(), one);
            }
        }
        match object.get("format").and_then(Value::as_str) {
            Some("uint16" | "uint32") => object.insert("format".into(), json!("int32")),
            Some("uint64") => object.insert("format".into(), json!("int64")),
            _ => None,
        };
    }
}

/// A point in time, as RFC 3339.
pub(crate) fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time" })
}

/// A string with a bound and nothing else.
pub(crate) fn short_string(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "maxLength": 16 })
}

/// `nodeSelector.matchLabels`.
pub(crate) fn match_labels(_: &mut SchemaGenerator) -> Schema {
    let value = Rule::new("!format.labelValue().validate(self).hasValue()", "must be a label value");
    let keys = Rule::new("self.all(k, !format.qualifiedName().validate(k).hasValue())", "not a label key");
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": { "type": "string", "maxLength": 63, "x-kubernetes-validations": [value] },
        "x-kubernetes-validations": [keys],
    })
}

/// A string that is a CIDR. 43 characters is the longest IPv6 address with its prefix length.
fn cidr(min_length: u8, not_a_cidr: &'static str, host_bits: &'static str) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": min_length,
        "maxLength": 43,
        "x-kubernetes-validations": [
            Rule::new("isCIDR(self)", "must be a CIDR").expression(not_a_cidr),
            // The first half keeps a string that is no CIDR from being reported twice.
            Rule::new("!isCIDR(self) || cidr(self) == cidr(self).masked()", host_bits),
        ],
    })
}

/// `peers[].cidr`.
pub(crate) fn peer_cidr(_: &mut SchemaGenerator) -> Schema {
    cidr(
        3,
        r#"'"' + self + '" is not a CIDR such as 10.0.0.0/8 or 2001:db8::/32 (one address is /32 or /128)'"#,
        "must have no host bits set (write 10.1.0.0/16, not 10.1.2.3/16)",
    )
}

/// `peers[].except`.
pub(crate) fn except(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "set",
        "items": cidr(
            3,
            r#"'"' + self + '" is not a CIDR'"#,
            "must have no host bits set (10.9.0.0/16, not 10.9.1.0/16)",
        ),
    })
}

/// `serverAddresses`.
pub(crate) fn server_addresses(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 64,
        "x-kubernetes-list-type": "set",
        "items": cidr(
            2,
            r#"'"' + self + '" is not a CIDR; one address is written with /32 or /128'"#,
            "must have no host bits set",
        ),
    })
}
