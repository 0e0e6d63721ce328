//! The tensors in what a checkpoint's pickle describes, by the names under which they are reached.
//!
//! Dictionaries, pickled modules and TorchScript's objects are walked; what is no tensor in them is passed by. Tensors of
//! kinds that hold no plain numbers (sparse, quantized) are listed and cannot be read.

use std::collections::HashMap;

use crate::weights::format::Dtype;
use crate::weights::format::torch::pickle::{Id, Made, Pickle, Value};

/// Objects within objects that are looked into.
const MAX_DEPTH: usize = 40;
/// Where a module of PyTorch keeps its tensors and modules.
const MODULE_PARTS: [&str; 3] = ["_parameters", "_buffers", "_modules"];
/// Bytes of a key, and tensors: more are no network's.
const MAX_KEY: usize = 1 << 10;
const MAX_TENSORS: usize = 1 << 17;
/// Times that a shared object is looked into: tensors are listed under each of their names, and objects that know each other
/// lead everywhere.
const MAX_VISITS: u8 = 16;

/// A tensor: a view of a storage.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// The dictionary that it is in, by the keys that lead there, with dots between them.
    pub group: String,
    /// Its name in that dictionary.
    pub name: String,
    pub shape: Vec<usize>,
    /// In values, as many as the shape has axes.
    pub strides: Vec<u64>,
    pub dtype: Dtype,
    pub storage: String,
    /// Values of the storage before the first.
    offset: u64,
}

impl Found {
    /// The first and the last value of the storage that it takes; `None` where they cannot be counted.
    pub fn span(&self) -> Option<(u64, u64)> {
        let steps = self.shape.iter().zip(&self.strides);
        let last = steps.into_iter().try_fold(self.offset, |at, (&len, &stride)| {
            at.checked_add(stride.checked_mul((len as u64).saturating_sub(1))?)
        })?;
        Some((self.offset, last))
    }

    /// Whether it is the same part of the same storage.
    pub fn is_view_of(&self, other: &Self) -> bool {
        (&self.storage, self.offset, &self.shape, &self.strides)
            == (&other.storage, other.offset, &other.shape, &other.strides)
    }

    pub fn is_contiguous(&self) -> bool {
        let mut expected = 1_u64;
        self.shape.iter().zip(&self.strides).rev().all(|(&len, &stride)| {
            let fits = len == 1 || stride == expected;
            expected = expected.wrapping_mul(len as u64);
            fits
        })
    }
}

/// Every tensor, in the order of the pickle.
pub(super) fn tensors(pickle: &Pickle) -> Vec<Found> {
    let mut walk = Walk { pickle, found: Vec::new(), n_visits: HashMap::new() };
    walk.visit(pickle.root, &Place::default(), 0);
    walk.found
}

/// The bytes of one value of each storage that is named anywhere: a storage counts its length in values.
pub(super) fn storage_sizes(pickle: &Pickle) -> HashMap<String, u64> {
    let all = (0..).map_while(|id| pickle.get(id));
    let storages = all.filter_map(|value| match value {
        Value::Persistent(id) => Storage::of(pickle, *id),
        _ => None,
    });
    storages.map(|storage| (storage.key, storage.value_bytes)).collect()
}

/// Where a walk is: the dictionaries that lead there, and the name so far within the innermost.
#[derive(Clone, Debug, Default)]
struct Place {
    group: String,
    name: String,
}

impl Place {
    fn within(&self, key: &str) -> Self {
        let name = joined(&self.name, key);
        Self { group: self.group.clone(), name }
    }

    /// A dictionary at this place.
    fn dictionary(&self) -> Self {
        Self { group: joined(&self.group, &self.name), name: String::new() }
    }
}

fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

struct Walk<'a> {
    pickle: &'a Pickle,
    found: Vec<Found>,
    n_visits: HashMap<Id, u8>,
}

impl Walk<'_> {
    fn visit(&mut self, id: Id, at: &Place, depth: usize) {
        let value = self.pickle.value(id);
        if !matches!(value, Value::Dict(_) | Value::Sequence(_) | Value::Made(_)) || depth > MAX_DEPTH {
            return;
        }
        let n_visits = self.n_visits.entry(id).or_default();
        if *n_visits >= MAX_VISITS {
            return;
        }
        *n_visits += 1;
        match value {
            Value::Dict(entries) => self.entries(entries, &at.dictionary(), depth),
            Value::Sequence(items) => self.items(items, at, depth),
            Value::Made(made) => self.made(made, at, depth),
            _ => {}
        }
    }

    fn entries(&mut self, entries: &[(Id, Id)], at: &Place, depth: usize) {
        for (key, value) in entries {
            if self.found.len() >= MAX_TENSORS {
                return;
            }
            let place = match self.pickle.value(*key) {
                Value::Text(key) if key.len() <= MAX_KEY => at.within(key),
                Value::Int(key) => at.within(&key.to_string()),
                _ => continue,
            };
            self.visit(*value, &place, depth + 1);
        }
    }

    fn items(&mut self, items: &[Id], at: &Place, depth: usize) {
        for (i, item) in items.iter().enumerate() {
            self.visit(*item, &at.within(&i.to_string()), depth + 1);
        }
    }

    fn made(&mut self, made: &Made, at: &Place, depth: usize) {
        // A call may have itself among its arguments.
        if depth > MAX_DEPTH {
            return;
        }
        let callable = self.pickle.global(made.callable).unwrap_or_default();
        let arguments = self.pickle.sequence(made.arguments).unwrap_or_default();
        match callable {
            "torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v3" => {
                let dtype = arguments.get(6).filter(|_| callable.ends_with("v3"));
                let dtype = dtype.and_then(|dtype| self.pickle.global(*dtype)).map(dtype_named);
                self.found.extend(tensor(self.pickle, arguments, dtype, at));
            }
            // What stands before a tensor's own call, and the tensor.
            "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state" => {
                if let Some(tensor) = arguments.first() {
                    self.visit(*tensor, at, depth + 1);
                }
            }
            "torch._tensor._rebuild_from_type_v2" | "torch.tensor._rebuild_from_type_v2" => {
                self.of_type(arguments, at, depth);
            }
            // A tensor for TorchScript's own list of attributes.
            "torch.jit._pickle.restore_type_tag" => {
                if let Some(value) = arguments.first() {
                    self.visit(*value, at, depth + 1);
                }
            }
            other if other.starts_with("torch._utils._rebuild_") => {
                let kind = other.trim_start_matches("torch._utils._rebuild_").to_owned();
                self.found.push(opaque(at, kind));
            }
            _ => self.object(made, at, depth),
        }
    }

    /// A tensor of a class derived from PyTorch's: its own call and arguments stand in those of the call.
    fn of_type(&mut self, arguments: &[Id], at: &Place, depth: usize) {
        let (Some(callable), Some(inner)) = (arguments.first(), arguments.get(2)) else { return };
        let made = Made { callable: *callable, arguments: *inner, ..Made::default() };
        self.made(&made, at, depth + 1);
    }

    /// Any other object: what it was filled with, and its state.
    fn object(&mut self, made: &Made, at: &Place, depth: usize) {
        if !made.entries.is_empty() {
            self.entries(&made.entries, &at.dictionary(), depth);
            return;
        }
        // Python 2 gives a dictionary its pairs when it is made.
        if self.pickle.global(made.callable) == Some("collections.OrderedDict") {
            let pairs =
                self.pickle.sequence(made.arguments).and_then(|arguments| self.pickle.sequence(*arguments.first()?));
            let pair = |id: &Id| match self.pickle.sequence(*id) {
                Some([key, value]) => Some((*key, *value)),
                _ => None,
            };
            let entries: Vec<(Id, Id)> = pairs.unwrap_or_default().iter().filter_map(pair).collect();
            self.entries(&entries, &at.dictionary(), depth);
            return;
        }
        self.items(&made.items, at, depth);
        let Some(state) = made.state else { return };
        // Where a class has slots, its state is two of them.
        let state = self.pickle.sequence(state).and_then(|parts| parts.first().copied()).unwrap_or(state);
        let Value::Dict(entries) = self.pickle.value(state) else { return };
        let named = |entry: &&(Id, Id)| self.pickle.text(entry.0).is_some_and(|key| MODULE_PARTS.contains(&key));
        if entries.iter().any(|entry| named(&entry)) {
            // A module: what PyTorch keeps beside its tensors and modules is no weight.
            let parts: Vec<Id> = entries.iter().filter(named).map(|(_, part)| *part).collect();
            parts.into_iter().for_each(|part| self.parts(part, at, depth));
            return;
        }
        self.entries(entries, at, depth);
    }

    /// What a module keeps in a dictionary, as if it were its own.
    fn parts(&mut self, dictionary: Id, at: &Place, depth: usize) {
        let entries = match self.pickle.value(dictionary) {
            Value::Dict(entries) => entries,
            Value::Made(made) => &made.entries,
            _ => return,
        };
        self.entries(entries, at, depth);
    }
}

/// A tensor that is listed and cannot be read.
fn opaque(at: &Place, kind: String) -> Found {
    Found {
        group: at.group.clone(),
        name: at.name.clone(),
        shape: Vec::new(),
        strides: Vec::new(),
        dtype: Dtype::Other(kind),
        storage: String::new(),
        offset: 0,
    }
}

/// A storage as the pickle names it.
struct Storage {
    key: String,
    dtype: Dtype,
    value_bytes: u64,
    /// Values of the storage before it, where it is a part of another.
    offset: u64,
}

impl Storage {
    /// `("storage", class, key, device, n_values[, (view's key, offset, n_values)])`.
    fn of(pickle: &Pickle, id: Id) -> Option<Self> {
        let parts = pickle.sequence(id)?;
        if pickle.text(*parts.first()?)? != "storage" {
            return None;
        }
        let class = pickle.global(*parts.get(1)?)?;
        let key = pickle.text(*parts.get(2)?)?.to_owned();
        let (dtype, value_bytes) = of_storage_class(class);
        let view = parts.get(5).and_then(|view| pickle.sequence(*view));
        let offset = view.and_then(|view| pickle.int(*view.get(1)?)).unwrap_or(0);
        Some(Self { key, dtype, value_bytes, offset: u64::try_from(offset).ok()? })
    }
}

/// A tensor from the arguments of its call: storage, offset, shape, strides.
fn tensor(pickle: &Pickle, arguments: &[Id], dtype: Option<Dtype>, at: &Place) -> Option<Found> {
    let Value::Persistent(storage) = pickle.value(*arguments.first()?) else {
        return Some(opaque(at, "tensor without a storage".to_owned()));
    };
    let storage = Storage::of(pickle, *storage)?;
    let offset = u64::try_from(pickle.int(*arguments.get(1)?)?).ok()?;
    let numbers = |id: &Id| -> Option<Vec<u64>> {
        pickle.sequence(*id)?.iter().map(|id| pickle.int(*id).and_then(|int| u64::try_from(int).ok())).collect()
    };
    let shape: Option<Vec<usize>> =
        numbers(arguments.get(2)?)?.into_iter().map(|len| usize::try_from(len).ok()).collect();
    let (shape, strides) = (shape?, numbers(arguments.get(3)?)?);
    if shape.len() != strides.len() {
        return None;
    }
    Some(Found {
        group: at.group.clone(),
        name: at.name.clone(),
        shape,
        strides,
        dtype: dtype.unwrap_or(storage.dtype),
        storage: storage.key,
        offset: offset.checked_add(storage.offset)?,
    })
}

/// What a storage's class holds, and the bytes of a value.
fn of_storage_class(class: &str) -> (Dtype, u64) {
    let name = class.rsplit('.').next().unwrap_or(class).trim_end_matches("Storage");
    match name {
        "Float" => (Dtype::F32, 4),
        "Double" => (Dtype::F64, 8),
        "Half" => (Dtype::F16, 2),
        "BFloat16" => (Dtype::Bf16, 2),
        "Long" => (Dtype::Other("int64".to_owned()), 8),
        "Int" => (Dtype::Other("int32".to_owned()), 4),
        "Short" => (Dtype::Other("int16".to_owned()), 2),
        "ComplexFloat" => (Dtype::Other("complex64".to_owned()), 8),
        "ComplexDouble" => (Dtype::Other("complex128".to_owned()), 16),
        "QInt32" => (Dtype::Other("qint32".to_owned()), 4),
        other => (Dtype::Other(other.to_lowercase()), 1),
    }
}

/// `torch.float32`.
fn dtype_named(name: &str) -> Dtype {
    match name.rsplit('.').next().unwrap_or(name) {
        "float32" | "float" => Dtype::F32,
        "float64" | "double" => Dtype::F64,
        "float16" | "half" => Dtype::F16,
        "bfloat16" => Dtype::Bf16,
        other => Dtype::Other(other.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pickle: &[u8]) -> Vec<Found> {
        tensors(&Pickle::read(&mut &pickle[..]).unwrap())
    }

    /// A list that is the arguments of a call that it names, and dictionaries that hold each other.
    #[test]
    fn objects_that_hold_themselves_end() {
        let of_type: &[u8] = b"ctorch._tensor\n_rebuild_from_type_v2\n";
        let call = [b"\x80\x02", of_type, b"]q\x00", of_type, b"aNah\x00aR."].concat();
        assert!(found(&call).is_empty());
        // Two dictionaries of eight entries each, all of them the other one.
        let mut entries = Vec::new();
        for key in b"abcdefgh" {
            entries.extend([b"X\x01\0\0\0", &[*key][..], b"h\x01s"].concat());
        }
        let mut others = Vec::new();
        for key in b"abcdefgh" {
            others.extend([b"X\x01\0\0\0", &[*key][..], b"h\x00s"].concat());
        }
        let both = [&b"\x80\x02}q\x00}q\x01"[..], &others, b"0", &entries, b"."].concat();
        assert!(found(&both).is_empty());
    }

    /// `pickle.dumps(OrderedDict([("a", tensor)]), 2)` of Python 2 has the pairs among the arguments of the call.
    #[test]
    fn pairs_of_an_older_dictionary_are_its_entries() {
        let storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x02tQ";
        let tensor =
            [b"ctorch._utils\n_rebuild_tensor_v2\n(", &storage[..], b"K\x00K\x02\x85K\x01\x85\x89NtR"].concat();
        let pairs = [b"ccollections\nOrderedDict\n]]X\x01\0\0\0aa", &tensor[..], b"aa\x85R."].concat();
        let found = found(&[b"\x80\x02", &pairs[..]].concat());
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].name.as_str(), &found[0].shape[..]), ("a", &[2][..]));
    }
}
