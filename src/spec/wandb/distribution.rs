//! One parameter of a W&B sweep file.

use serde_json::{Number, Value};

use crate::spec::node::Node;
use crate::spec::schema::sweep::Distribution;

/// Keys that a parameter may have.
const KNOWN: [&str; 13] = [
    "distribution",
    "value",
    "values",
    "probabilities",
    "min",
    "max",
    "mu",
    "sigma",
    "q",
    "a",
    "b",
    "desc",
    "description",
];

/// Reads a parameter. Errors: what is wrong with it, in words.
pub(super) fn read(node: &Node) -> Result<Distribution, String> {
    let Value::Object(map) = node.to_json() else { return Err("it is no map".to_owned()) };
    if let Some(key) = map.keys().find(|key| !KNOWN.contains(&key.as_str())) {
        return Err(format!("`{key}` is no key of a parameter"));
    }
    let number = |key: &str| match map.get(key) {
        None => Ok(None),
        Some(Value::Number(number)) => Ok(Some(number.clone())),
        Some(other) => Err(format!("`{key}` is {other}, not a number")),
    };
    let (min, max) = (number("min")?, number("max")?);
    let (mu, sigma, q) = (number("mu")?, number("sigma")?, number("q")?);
    let float = |number: Option<&Number>| number.and_then(Number::as_f64);
    let kind = match map.get("distribution") {
        Some(Value::String(kind)) => kind.as_str(),
        Some(other) => return Err(format!("`distribution` is {other}, not a name")),
        None if map.contains_key("value") => "constant",
        None if map.contains_key("probabilities") => "categorical_w_probabilities",
        None if map.contains_key("values") => "categorical",
        None if [&min, &max].iter().all(|end| end.as_ref().is_some_and(|end| !end.is_f64())) => "int_uniform",
        None if min.is_some() || max.is_some() => "uniform",
        None => return Err("it has no `value`, `values`, or `min` and `max`".to_owned()),
    };
    let listed = |values: Vec<Value>| Distribution { values: Some(values), ..Distribution::default() };
    let ends = || min.clone().zip(max.clone()).ok_or_else(|| format!("{kind} needs `min` and `max`"));
    let range = |[min, max]: [Number; 2], log, step| Distribution {
        min: Some(min),
        max: Some(max),
        log,
        step,
        ..Distribution::default()
    };
    // W&B's default of `q` is 1.
    let q = float(q.as_ref()).unwrap_or(1.0);
    match kind {
        "constant" => Ok(listed(vec![map.get("value").cloned().ok_or("constant needs a `value`")?])),
        "categorical" | "categorical_w_probabilities" => {
            let values = map.get("values").and_then(Value::as_array).ok_or("it needs `values`, a list")?;
            let probabilities = match map.get("probabilities") {
                None => None,
                Some(Value::Array(items)) => {
                    let numbers: Option<Vec<f64>> = items.iter().map(Value::as_f64).collect();
                    Some(numbers.ok_or("`probabilities` are numbers")?)
                }
                Some(_) => return Err("`probabilities` is a list".to_owned()),
            };
            Ok(Distribution { probabilities, ..listed(values.clone()) })
        }
        "int_uniform" => {
            let (min, max) = ends()?;
            if min.is_f64() || max.is_f64() {
                return Err("int_uniform needs whole numbers".to_owned());
            }
            Ok(range([min, max], false, None))
        }
        "uniform" | "q_uniform" | "log_uniform_values" | "q_log_uniform_values" => {
            let (min, max) = ends()?;
            let is_rounded = kind.starts_with('q');
            let [min, max] = match is_rounded {
                true => on_multiples([min, max], q)?,
                false => [min, max].map(as_float),
            };
            Ok(range([min, max], kind.contains("log"), is_rounded.then_some(q)))
        }
        "log_uniform" | "q_log_uniform" => {
            // Its ends are exponents of e.
            let (min, max) = ends()?;
            let exp = |end: &Number| Number::from_f64(end.as_f64().unwrap_or(f64::NAN).exp());
            let [min, max] = [exp(&min), exp(&max)].map(|end| end.ok_or("its ends are exponents of e, and too large"));
            let ends = [min?, max?];
            let is_rounded = kind.starts_with('q');
            Ok(range(if is_rounded { on_multiples(ends, q)? } else { ends }, true, is_rounded.then_some(q)))
        }
        "normal" | "q_normal" | "log_normal" | "q_log_normal" => Ok(Distribution {
            mean: float(mu.as_ref()).or(Some(0.0)),
            std: float(sigma.as_ref()).or(Some(1.0)),
            log: kind.contains("log"),
            step: kind.starts_with('q').then_some(q),
            ..Distribution::default()
        }),
        _ => Err(format!("the distribution {kind} is not drawn from here")),
    }
}

fn as_float(number: Number) -> Number {
    number.as_f64().and_then(Number::from_f64).unwrap_or(number)
}

/// The first and the last multiple of `q` between the ends: W&B rounds to multiples, and steps here begin at the minimum.
fn on_multiples([min, max]: [Number; 2], q: f64) -> Result<[Number; 2], String> {
    let [low, high] = [&min, &max].map(|end| end.as_f64().unwrap_or(f64::NAN));
    if q <= 0.0 {
        return Err("`q` is above 0".to_owned());
    }
    let [low, high] = [(low / q).ceil() * q, (high / q).floor() * q];
    let is_whole = !min.is_f64() && !max.is_f64() && q.fract() == 0.0;
    let number = |value: f64| {
        let number = if is_whole { Some(Number::from(value as i64)) } else { Number::from_f64(value) };
        number.ok_or_else(|| "an end is no number".to_owned())
    };
    Ok([number(low)?, number(high)?])
}
