//! The CEL rules of a schema, evaluated with kube's port of the API server's functions.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use kube::core::cel::{
    KubeCelExt,
    cel::{Context, ExecutionError, Program, Value},
};
use serde_json::Value as Json;

/// A rule, compiled.
pub(super) struct Rule {
    text: String,
    program: Program,
    message: String,
    message_program: Option<Program>,
    /// The field that a failure is about, below the value that the rule is on. Empty: the value itself.
    pub(super) field: String,
    /// The fields of the value that the rule looks at. None: the value as a whole.
    pub(super) looks_at: Option<Vec<String>>,
}

impl Rule {
    /// All rules that stand on a schema itself (not on those within it).
    pub(super) fn all(schema: &Json) -> Result<Vec<Self>, String> {
        let rules = schema["x-kubernetes-validations"].as_array();
        rules.into_iter().flatten().map(|rule| Self::new(schema, rule)).collect()
    }

    fn new(schema: &Json, rule: &Json) -> Result<Self, String> {
        let compile = |text: &str| Program::compile(text).map_err(|error| format!("{text}: {error}"));
        let text = rule["rule"].as_str().unwrap_or_default();
        let program = compile(text)?;
        if program.references().has_variable("oldSelf") {
            // A file has no earlier version of itself; leaving the rule out must be decided, not happen.
            return Err(format!("{text}: a rule about changes cannot be checked in a file"));
        }
        Ok(Self {
            text: text.to_owned(),
            program,
            message: rule["message"].as_str().unwrap_or(text).to_owned(),
            message_program: rule["messageExpression"].as_str().map(compile).transpose()?,
            field: rule["fieldPath"].as_str().unwrap_or_default().trim_start_matches('.').to_owned(),
            looks_at: looks_at(schema, text),
        })
    }

    /// The message, where the value breaks the rule.
    pub(super) fn broken_by(&self, functions: &Context, value: &Json) -> Option<String> {
        let mut context = functions.new_inner_scope();
        context.add_variable_from_value("self", to_cel(value));
        match self.program.execute(&context) {
            Ok(Value::Bool(true)) => None,
            Ok(Value::Bool(false)) => {
                let message = self.message_program.as_ref().map(|program| program.execute(&context));
                Some(match message {
                    Some(Ok(Value::String(message))) => message.as_ref().clone(),
                    _ => self.message.clone(),
                })
            }
            // Not being able to tell is a refusal.
            Ok(_) => Some(format!("the rule {} says neither true nor false", self.text)),
            Err(error) => Some(format!("the rule {} cannot be evaluated: {error}", self.text)),
        }
    }
}

/// What rules may call. Costly to make, so made once a file.
pub(super) fn functions() -> Context<'static> {
    let mut context = Context::default().with_all();
    context.add_function("isCIDR", is_cidr);
    context
}

/// The API server's `isCIDR` refuses leading zeros, and so does the standard library. kube's takes them.
fn is_cidr(text: Arc<String>) -> Result<Value, ExecutionError> {
    let is_cidr = text.split_once('/').is_some_and(|(address, prefix)| {
        let longest = match address.parse() {
            Ok(IpAddr::V4(_)) => 32,
            Ok(IpAddr::V6(address)) if address.to_ipv4_mapped().is_none() => 128,
            _ => return false,
        };
        let plain = prefix == "0" || !prefix.starts_with(['0', '+']);
        plain && prefix.parse::<u8>().is_ok_and(|prefix| prefix <= longest)
    });
    Ok(Value::Bool(is_cidr))
}

fn to_cel(value: &Json) -> Value {
    match value {
        Json::Null => Value::Null,
        Json::Bool(bool) => Value::Bool(*bool),
        // All our numbers are integers; CEL compares no integer with a float or an unsigned one.
        Json::Number(number) => match number.as_i64() {
            Some(int) => Value::Int(int),
            None => Value::Float(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::String(Arc::new(text.clone())),
        Json::Array(items) => Value::List(Arc::new(items.iter().map(to_cel).collect())),
        Json::Object(fields) => {
            let fields: HashMap<String, Value> =
                fields.iter().map(|(name, value)| (name.clone(), to_cel(value))).collect();
            fields.into()
        }
    }
}

/// Which fields a rule reads, so that one bad field does not keep the rules about the others from being checked.
fn looks_at(schema: &Json, rule: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    for rest in rule.split("self").skip(1) {
        let name: String = rest.strip_prefix('.')?.chars().take_while(char::is_ascii_alphanumeric).collect();
        schema["properties"].get(&name)?;
        if !fields.contains(&name) {
            fields.push(name);
        }
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Tables from the API server's own tests (cel/library/cidr.go, format.go), as far as our rules use them.
    #[test]
    fn functions_are_those_of_the_api_server() {
        let rule = |text: &str| Rule::new(&Json::Null, &json!({ "rule": text, "message": "no" })).unwrap();
        let cidr = rule("isCIDR(self)");
        for good in [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.1.2.3/8",
            "::/0",
            "2001:db8::/32",
            "::1/128",
            "64:ff9b::1.2.3.4/96",
        ] {
            assert_eq!(cidr.broken_by(&functions(), &json!(good)), None, "{good}");
        }
        for bad in [
            "",
            "/",
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "10.0.0.0/8 ",
            "010.0.0.0/8",
            "10.0.0/8",
            "10.0.0.0/8/8",
            "::/129",
            "::ffff:10.0.0.0/104",
            "::ffff:a00:0/104",
            "fe80::%eth0/64",
            "::1.2.3.04/128",
            "0x0a.0.0.0/8",
        ] {
            assert_eq!(cidr.broken_by(&functions(), &json!(bad)).as_deref(), Some("no"), "{bad}");
        }

        let label = rule("!format.labelValue().validate(self).hasValue()");
        for (value, good) in
            [("", true), ("a", true), ("A-b_c.9", true), ("-a", false), ("a-", false), ("a b", false)]
        {
            assert_eq!(label.broken_by(&functions(), &json!(value)).is_none(), good, "{value}");
        }
        let key = rule("!format.qualifiedName().validate(self).hasValue()");
        for (value, good) in [
            ("a", true),
            ("example.com/A_b", true),
            ("", false),
            ("/a", false),
            ("a/", false),
            ("a/b/c", false),
            ("Example.com/a", false),
            ("a b", false),
        ] {
            assert_eq!(key.broken_by(&functions(), &json!(value)).is_none(), good, "{value}");
        }

        let within = rule("cidr('10.0.0.0/8').containsCIDR(self) && cidr(self).prefixLength() > 8");
        for (value, good) in
            [("10.9.0.0/16", true), ("10.0.0.0/8", false), ("11.0.0.0/16", false), ("::/9", false)]
        {
            assert_eq!(within.broken_by(&functions(), &json!(value)).is_none(), good, "{value}");
        }
    }

    #[test]
    fn what_cannot_be_evaluated_is_refused() {
        let rule = |text: &str| Rule::new(&Json::Null, &json!({ "rule": text, "message": "no" }));
        assert!(rule("self.missing > 1").unwrap().broken_by(&functions(), &json!({})).is_some());
        assert!(rule("self").unwrap().broken_by(&functions(), &json!("text")).is_some());
        assert!(rule("noSuchFunction(self)").unwrap().broken_by(&functions(), &json!("text")).is_some());
        assert!(rule("self ===").is_err());
        assert!(rule("self == oldSelf").is_err());
    }

    #[test]
    fn a_rule_knows_what_it_looks_at() {
        let schema = json!({ "properties": { "a": {}, "b": {} } });
        assert_eq!(looks_at(&schema, "!has(self.a) || self.b > self.a"), Some(vec!["a".into(), "b".into()]));
        assert_eq!(looks_at(&schema, "self.all(k, k != '')"), None);
        assert_eq!(looks_at(&schema, "isCIDR(self)"), None);
    }
}
