//! The values that a key of a sweep may take, as a search draws them.

use serde_json::{Number, Value, json};

use crate::spec::schema::sweep::Distribution;

/// Significant digits of a drawn number: more say nothing, and people read them.
const DIGITS: usize = 6;

/// Where a key's values come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Domain {
    /// Listed values and how probable each is; the weights need not sum to 1.
    Values {
        values: Vec<Value>,
        weights: Vec<f64>,
    },
    /// Whole numbers or all numbers between two.
    Range {
        min: f64,
        max: f64,
        is_whole: bool,
        log: bool,
        step: Option<f64>,
    },
    Normal {
        mean: f64,
        std: f64,
        log: bool,
        step: Option<f64>,
    },
}

impl Domain {
    /// Errors: what is wrong with the distribution, in words.
    pub fn of(distribution: &Distribution) -> Result<Self, String> {
        let Distribution { values, probabilities, min, max, log, step, mean, std, when: _ } = distribution;
        let n_kinds = [values.is_some(), min.is_some() || max.is_some(), mean.is_some() || std.is_some()];
        if n_kinds.iter().filter(|is_there| **is_there).count() != 1 {
            return Err("takes either `values`, or `min` and `max`, or `mean` and `std`".to_owned());
        }
        if let Some(values) = values {
            return if *log || step.is_some() {
                Err("`log` and `step` go with `min` and `max`".to_owned())
            } else {
                Self::listed(values, probabilities.as_deref())
            };
        }
        if probabilities.is_some() {
            return Err("`probabilities` go with `values`".to_owned());
        }
        match (min, max, mean, std) {
            (Some(min), Some(max), ..) => Self::range([min, max], *log, *step),
            (_, _, Some(mean), Some(std)) => Ok(Self::Normal { mean: *mean, std: *std, log: *log, step: *step }),
            (Some(_), ..) => Err("`min` needs a `max`".to_owned()),
            (_, Some(_), ..) => Err("`max` needs a `min`".to_owned()),
            (_, _, Some(_), _) => Err("`mean` needs a `std`".to_owned()),
            _ => Err("`std` needs a `mean`".to_owned()),
        }
    }

    fn listed(values: &[Value], probabilities: Option<&[f64]>) -> Result<Self, String> {
        if let Some((_, value)) = values.iter().enumerate().find(|(i, value)| values[..*i].contains(value)) {
            return Err(format!("{value} stands in `values` twice"));
        }
        let weights = match probabilities {
            None => vec![1.0; values.len()],
            Some(weights) if weights.len() != values.len() => {
                return Err(format!("{} probabilities for {} values", weights.len(), values.len()));
            }
            Some(weights) if weights.iter().any(|weight| weight.is_nan() || *weight < 0.0) => {
                return Err("a probability is not below 0".to_owned());
            }
            Some(weights) if (weights.iter().sum::<f64>() - 1.0).abs() > 1e-6 => {
                return Err(format!("the probabilities sum to {}, not to 1", weights.iter().sum::<f64>()));
            }
            Some(weights) => weights.to_vec(),
        };
        Ok(Self::Values { values: values.to_vec(), weights })
    }

    fn range(ends: [&Number; 2], log: bool, step: Option<f64>) -> Result<Self, String> {
        let is_whole = ends.iter().all(|end| !end.is_f64()) && step.is_none_or(|step| step.fract() == 0.0);
        let [min, max] = ends.map(|end| end.as_f64().unwrap_or(f64::NAN));
        if min.is_nan() || max.is_nan() || min >= max || (max - min).is_infinite() {
            return Err(format!("`min` {min} is not below `max` {max}"));
        }
        if log && min <= 0.0 {
            return Err("a logarithmic range begins above 0".to_owned());
        }
        Ok(Self::Range { min, max, is_whole, log, step })
    }

    /// All its values, where they can be counted.
    pub fn all(&self) -> Option<Vec<Value>> {
        match self {
            Self::Values { values, .. } => Some(values.clone()),
            Self::Range { min, max, is_whole, log: _, step } => {
                let step = step.or(is_whole.then_some(1.0))?;
                // A step that does not quite meet the end for its rounding does meet it.
                let n = ((max - min) / step + 1e-9).floor() as usize;
                (n < 100_000).then(|| (0..=n).map(|i| self.value(min + i as f64 * step)).collect())
            }
            Self::Normal { .. } => None,
        }
    }

    /// Listed values, or the smallest and the largest; none of a distribution without ends.
    pub fn ends(&self) -> Vec<Value> {
        match self {
            Self::Values { values, .. } => values.clone(),
            Self::Range { min, max, .. } => vec![self.value(*min), self.value(*max)],
            Self::Normal { .. } => Vec::new(),
        }
    }

    /// The end points of what [`Self::at`] takes: a search's own coordinate, logarithmic where
    /// the domain is, and the index of a listed value.
    pub fn bounds(&self) -> [f64; 2] {
        match self {
            Self::Values { values, .. } => [0.0, values.len() as f64],
            // A whole number is as wide as any other.
            Self::Range { min, max, is_whole, log, step } => {
                let half = if *is_whole && step.is_none() { 0.5 } else { 0.0 };
                let [min, max] = [min - half, max + half];
                if *log { [min.max(f64::MIN_POSITIVE).ln(), max.ln()] } else { [min, max] }
            }
            Self::Normal { mean, std, .. } => [mean - 6.0 * std, mean + 6.0 * std],
        }
    }

    /// The value at a search's coordinate.
    pub fn at(&self, coordinate: f64) -> Value {
        match self {
            Self::Values { values, .. } => values[(coordinate.max(0.0) as usize).min(values.len() - 1)].clone(),
            Self::Range { log, .. } | Self::Normal { log, .. } => {
                self.value(if *log { coordinate.exp() } else { coordinate })
            }
        }
    }

    /// The coordinate of a value; `None` of one that is not in it.
    pub fn coordinate(&self, value: &Value) -> Option<f64> {
        match self {
            Self::Values { values, .. } => {
                let place = values.iter().position(|listed| super::point::is_one_of(value, listed))?;
                Some(place as f64 + 0.5)
            }
            Self::Range { log, .. } | Self::Normal { log, .. } => {
                let value = value.as_f64()?;
                let coordinate = if *log { value.ln() } else { value };
                let [min, max] = self.bounds();
                coordinate.is_finite().then(|| coordinate.clamp(min, max))
            }
        }
    }

    /// A number of the domain near another.
    fn value(&self, number: f64) -> Value {
        match self {
            Self::Values { .. } => Value::Null,
            Self::Range { min, max, is_whole, step, .. } => {
                let stepped = match step {
                    Some(step) => {
                        let n = ((max - min) / step + 1e-9).floor();
                        min + ((number - min) / step).round().clamp(0.0, n) * step
                    }
                    None => number,
                };
                if *is_whole {
                    return json!(stepped.round().clamp(*min, *max) as i64);
                }
                json!(rounded(stepped).clamp(*min, *max))
            }
            Self::Normal { step, .. } => {
                json!(rounded(step.map_or(number, |step| (number / step).round() * step)))
            }
        }
    }
}

/// To as many significant digits as are worth it.
fn rounded(value: f64) -> f64 {
    format!("{value:.*e}", DIGITS - 1).parse().expect("a number's text is one")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(text: Value) -> Result<Domain, String> {
        Domain::of(&serde_json::from_value(text).unwrap())
    }

    #[test]
    fn what_does_not_go_together_is_said() {
        for (text, expected) in [
            (json!({}), "takes either `values`, or `min` and `max`, or `mean` and `std`"),
            (json!({ "values": [1], "min": 1 }), "takes either `values`, or `min` and `max`, or `mean` and `std`"),
            (json!({ "values": [1, 2, 1] }), "1 stands in `values` twice"),
            (json!({ "values": [1, 2], "log": true }), "`log` and `step` go with `min` and `max`"),
            (json!({ "values": [1, 2], "probabilities": [1.0] }), "1 probabilities for 2 values"),
            (json!({ "values": [1, 2], "probabilities": [0.5, 0.6] }), "the probabilities sum to 1.1, not to 1"),
            (json!({ "values": [1, 2], "probabilities": [1.5, -0.5] }), "a probability is not below 0"),
            (json!({ "min": 1 }), "`min` needs a `max`"),
            (json!({ "max": 1 }), "`max` needs a `min`"),
            (json!({ "min": 2, "max": 1 }), "`min` 2 is not below `max` 1"),
            (json!({ "min": 0, "max": 1, "log": true }), "a logarithmic range begins above 0"),
            (json!({ "mean": 0 }), "`mean` needs a `std`"),
            (json!({ "min": 0, "max": 1, "probabilities": [1.0] }), "`probabilities` go with `values`"),
        ] {
            assert_eq!(domain(text.clone()).unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn what_can_be_counted_is_listed() {
        for (text, expected) in [
            (json!({ "values": ["a", { "stages": 2 }] }), Some(json!(["a", { "stages": 2 }]))),
            (json!({ "min": 1, "max": 4 }), Some(json!([1, 2, 3, 4]))),
            (json!({ "min": 1, "max": 10, "step": 4 }), Some(json!([1, 5, 9]))),
            (json!({ "min": 0.1, "max": 0.5, "step": 0.1 }), Some(json!([0.1, 0.2, 0.3, 0.4, 0.5]))),
            (json!({ "min": 0.0, "max": 1.0 }), None),
            (json!({ "mean": 0.0, "std": 1.0 }), None),
        ] {
            assert_eq!(domain(text.clone()).unwrap().all().map(Value::Array), expected, "{text}");
        }
    }

    #[test]
    fn coordinates_come_back_to_their_values_and_stay_inside() {
        for text in [
            json!({ "values": ["a", "b", 3] }),
            json!({ "min": 1, "max": 20 }),
            json!({ "min": 1, "max": 1000, "log": true }),
            json!({ "min": 1e-6, "max": 1.0, "log": true }),
            json!({ "min": 0.0, "max": 0.5, "step": 0.125 }),
            json!({ "mean": -7.0, "std": 2.0, "log": true }),
        ] {
            let domain = domain(text.clone()).unwrap();
            let [min, max] = domain.bounds();
            for i in 0..=50 {
                let value = domain.at(min + (max - min) * f64::from(i) / 50.0);
                let coordinate = domain.coordinate(&value).unwrap();
                assert!((min..=max).contains(&coordinate), "{text} {value}");
                let again = domain.at(coordinate);
                let near = value == again
                    || (value.as_f64().unwrap() - again.as_f64().unwrap()).abs()
                        <= 1e-5 * value.as_f64().unwrap().abs();
                assert!(near, "{text}: {value} {again}");
            }
        }
    }
}
