//! Writes the definitions of all kinds into `crds` (or another folder), or, with `--check`, finds out whether they
//! drift.

#![forbid(unsafe_code)]

use std::{fs, path::Path, process::ExitCode};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

/// Where they are, seen from the top of the repository.
const FOLDER: &str = "crds";
const HEADER: &str = "# Generated from crates/api by `make generate`. Do not edit.\n";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (check, folder) = match arguments[..] {
        [] => (false, FOLDER),
        ["--check"] => (true, FOLDER),
        ["--check", folder] => (true, folder),
        [folder] if !folder.starts_with('-') => (false, folder),
        _ => {
            eprintln!("usage: notrack-crds [--check] [<folder>]");
            return ExitCode::from(2);
        }
    };
    let mut result = ExitCode::SUCCESS;
    for crd in notrack_api::crds() {
        if let Err(problem) = file(&crd, Path::new(folder), check) {
            eprintln!("{problem}");
            result = ExitCode::FAILURE;
        }
    }
    result
}

/// Writes one file, or compares it.
fn file(crd: &CustomResourceDefinition, folder: &Path, check: bool) -> Result<(), String> {
    let path = folder.join(format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural));
    let name = path.display();
    let mut definition = serde_json::to_value(crd).map_err(|error| format!("{name}: {error}"))?;
    integers(&mut definition);
    let yaml = serde_saphyr::to_string(&definition).map_err(|error| format!("{name}: {error}"))?;
    let yaml = format!("{HEADER}{yaml}");
    if !check {
        return fs::write(&path, yaml).map_err(|error| format!("{name}: {error}"));
    }
    match fs::read_to_string(&path) {
        Ok(committed) if committed == yaml => Ok(()),
        Ok(_) => Err(format!("{name} differs from crates/api: run `make generate`")),
        Err(error) => Err(format!("{name}: {error}: run `make generate`")),
    }
}

/// Bounds are floats in Kubernetes' own types. A person and a diff want `65535`, not `65535.0`.
fn integers(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(integers),
        Value::Object(fields) => fields.values_mut().for_each(integers),
        Value::Number(number) => {
            if let Some(float) = number.as_f64()
                && float.fract() == 0.0
                && float.abs() < f64::from(u32::MAX)
            {
                *value = Value::from(float as i64);
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}
