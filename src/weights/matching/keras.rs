//! Keras' files: layers by their order, as Keras gives them their weights, and by their names.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use regex::Regex;

use crate::models::head::dense_tensors;
use crate::models::operation::Operation;
use crate::models::parameters::TensorAddress;
use crate::spec::schema::weights::{MatchBy, Selection};
use crate::weights::axes::stored_shape;
use crate::weights::format::{Convention, StoredLayer, TensorFile, keras_group};
use crate::weights::matching::{How, Matched, Top, Unfit, Wanted, full_name, misshaped, printable, renamed, unused};

/// A layer of the network that has tensors.
#[derive(Debug)]
struct Want {
    /// Keras' name; dots of modules are underscores, since no layer's name may have one.
    name: String,
    /// In snake case, as groups are called: `conv2d`.
    class: String,
    tensors: Vec<TensorAddress>,
    shapes: Vec<Vec<usize>>,
}

/// A layer of the file for each of the network's, by its place in [`TensorFile::layers`].
type Assignment = Vec<usize>;

/// What fits in one model of a file.
struct Candidate {
    /// The models that lead there.
    path: Vec<String>,
    assignment: Assignment,
    how: How,
}

pub(super) fn matched(
    file: &dyn TensorFile,
    wanted: Wanted<'_>,
    selection: &Selection,
    renames: &[(Regex, String)],
) -> Result<Matched, Unfit> {
    let wants = wants(wanted);
    let book = Book { file, wants: &wants, names: names(file.layers(), renames) };
    let mut candidates: Vec<Candidate> = Vec::new();
    for path in parts(file.layers()) {
        if !selection.part.as_deref().is_none_or(|part| is_called(&path, part)) {
            continue;
        }
        if let Some((assignment, how)) = book.part(&path, selection, !renames.is_empty())? {
            let is_new = candidates.iter().all(|known| known.assignment != assignment);
            if is_new {
                let path = path.iter().map(|model| model.called.clone()).collect();
                candidates.push(Candidate { path, assignment, how });
            }
        }
    }
    let taken = match &candidates[..] {
        [] => return Err(book.unfit(selection)),
        [only] => only,
        several => return Err(ambiguous(several)),
    };
    let pairs = taken.assignment.iter().zip(&wants);
    let indices: HashMap<String, usize> = pairs
        .flat_map(|(layer, want)| want.tensors.iter().zip(&file.layers()[*layer].tensors))
        .map(|(address, index)| (address.name.clone(), *index))
        .collect();
    let classifiers: Vec<String> = wanted.head().dense.iter().map(|dense| dense.names.keras_layer()).collect();
    let unused = unused(file, &indices, &classifiers, |i| file.tensors()[i].name.clone());
    let taken_part = (!taken.path.is_empty()).then(|| format!("`{}`", printable(&taken.path.join("/"))));
    // Where branches meet, layers at equal depth follow each other as the sum names them.
    let is_branched = wanted.layout.name.starts_with("resnet");
    let warnings = (taken.how == How::Position && is_branched).then(|| {
        "the layers have other names than the network's, and where branches meet only their order tells which is which: \
         hold the answers against those of the model that the file is from"
            .to_owned()
    });
    let warnings = warnings.into_iter().collect();
    Ok(Matched { indices, how: taken.how, taken: taken_part, warnings, unused })
}

/// The network's layers with tensors, in the order of `model.layers`.
fn wants(wanted: Wanted<'_>) -> Vec<Want> {
    let want = |name: String, class: &str, tensors: Vec<TensorAddress>| {
        let shapes = tensors.iter().map(|tensor| stored_shape(tensor, Convention::Keras)).collect();
        Want { name, class: keras_group(class), tensors, shapes }
    };
    let nodes = wanted.layout.nodes_in_keras_order().into_iter().map(|i| &wanted.layout.nodes[i].operation);
    let mut all: Vec<Want> = nodes
        .filter_map(|operation| match operation {
            Operation::Conv(conv) if conv.depthwise => {
                Some(want(conv.names.keras_layer(), "DepthwiseConv2D", operation.tensors()))
            }
            Operation::Conv(conv) => Some(want(conv.names.keras_layer(), "Conv2D", operation.tensors())),
            Operation::Norm(norm) => Some(want(norm.names.keras_layer(), "BatchNormalization", operation.tensors())),
            _ => None,
        })
        .collect();
    if let Top::Needed(head) = wanted.top {
        let dense = head.dense.iter().zip(dense_tensors(head));
        all.extend(dense.map(|(dense, tensors)| want(dense.names.keras_layer(), "Dense", tensors.to_vec())));
    }
    all
}

/// A model of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    group: String,
    called: String,
}

/// The paths of all models, the file's own first.
fn parts(layers: &[StoredLayer]) -> Vec<Vec<Part>> {
    let mut all: Vec<Vec<Part>> = vec![Vec::new()];
    for layer in layers {
        let path: Vec<Part> = layer
            .models
            .iter()
            .map(|model| Part { group: model.group.clone(), called: model.called().to_owned() })
            .collect();
        for n in 1..=path.len() {
            if !all.contains(&path[..n].to_vec()) {
                all.push(path[..n].to_vec());
            }
        }
    }
    all
}

/// Whether `part` names a model: by its own name, its group, or the whole path of either.
fn is_called(path: &[Part], part: &str) -> bool {
    let whole = |of: fn(&Part) -> &str| path.iter().map(of).collect::<Vec<_>>().join("/");
    path.last().is_some_and(|last| last.called == part || last.group == part)
        || whole(|part| &part.called) == part
        || whole(|part| &part.group) == part
}

/// A layer's name and its group, each with the models that it lies in.
pub(super) fn paths(layer: &StoredLayer) -> [String; 2] {
    let models: Vec<&str> = layer.models.iter().map(|model| model.called()).collect();
    [layer.called(), &layer.group].map(|own| models.iter().copied().chain([own]).collect::<Vec<_>>().join("/"))
}

/// What each layer is called, less the dots of older exports; after `rename`, which sees the whole path.
fn names(layers: &[StoredLayer], renames: &[(Regex, String)]) -> Vec<Vec<String>> {
    let of = |layer: &StoredLayer| -> Vec<String> {
        let renamed = paths(layer).map(|path| renamed(&path, renames));
        let mut names = renamed.map(|path| path.rsplit('/').next().unwrap_or_default().to_owned()).to_vec();
        names.iter_mut().for_each(|name| *name = name.replace('.', "_"));
        names.dedup();
        names
    };
    layers.iter().map(of).collect()
}

/// A file and a network side by side.
struct Book<'a> {
    file: &'a dyn TensorFile,
    wants: &'a [Want],
    /// By layer of the file.
    names: Vec<Vec<String>>,
}

impl Book<'_> {
    /// The network's layers in one model of the file, if all are there.
    fn part(&self, path: &[Part], selection: &Selection, is_renamed: bool) -> Result<Option<(Assignment, How)>, Unfit> {
        let layers = self.file.layers();
        let is_under = |layer: &StoredLayer| {
            layer.models.len() >= path.len()
                && layer.models.iter().zip(path).all(|(model, part)| model.group == part.group)
        };
        let under: Vec<usize> = (0..layers.len()).filter(|i| is_under(&layers[*i])).collect();
        let own: Vec<usize> = under.iter().copied().filter(|i| layers[*i].models.len() == path.len()).collect();
        let by_name = self.by_name(&own).or_else(|| self.by_name(&under));
        let is_listed = self.file.kind().lists_layers();
        let by_position = self.by_position(&own).or_else(|| if is_listed { None } else { self.by_lists(&under) });
        let named = if is_renamed { How::Renamed } else { How::Names };
        Ok(match (selection.by, by_position, by_name) {
            (Some(MatchBy::Name), _, by_name) => by_name.map(|names| (names, named)),
            (Some(MatchBy::Position), by_position, _) => by_position.map(|places| (places, How::Position)),
            // Whoever renames layers wants their names looked at.
            (None, _, Some(names)) if is_renamed => Some((names, How::Renamed)),
            (None, Some(places), Some(names)) if places != names => return Err(self.contradiction(&places, &names)),
            (None, Some(_), Some(names)) => Some((names, How::NamesAndPosition)),
            (None, None, Some(names)) => Some((names, How::Names)),
            // Whoever renames layers goes by names.
            (None, _, None) if is_renamed => None,
            (None, Some(places), None) => Some((places, How::Position)),
            (None, None, None) => self.by_shape(&under).map(|shapes| (shapes, How::Shapes)),
        })
    }

    fn fits(&self, layer: usize, want: &Want) -> bool {
        let stored = &self.file.layers()[layer].tensors;
        stored.len() == want.shapes.len()
            && stored.iter().zip(&want.shapes).all(|(i, shape)| self.file.tensors()[*i].shape == *shape)
    }

    /// Layers by their names, each of which must be there once and fit.
    fn by_name(&self, among: &[usize]) -> Option<Assignment> {
        let mut by_name: BTreeMap<&str, Option<usize>> = BTreeMap::new();
        for &layer in among {
            for name in &self.names[layer] {
                let known = by_name.entry(name).or_insert(Some(layer));
                if *known != Some(layer) {
                    *known = None;
                }
            }
        }
        let found = |want: &Want| by_name.get(want.name.as_str()).copied().flatten();
        self.wants.iter().map(|want| found(want).filter(|layer| self.fits(*layer, want))).collect()
    }

    /// Layers by their order: in older files that of all, in newer ones that within each class.
    fn by_position(&self, own: &[usize]) -> Option<Assignment> {
        let layers = self.file.layers();
        if own.iter().all(|i| layers[*i].class.is_none()) {
            return if self.file.kind().lists_layers() { self.run(own) } else { None };
        }
        let mut of_class: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for &i in own {
            if let Some(class) = layers[i].class.as_deref() {
                of_class.entry(class).or_default().push(i);
            }
        }
        let n_wanted = |class: &str| self.wants.iter().filter(|want| want.class == class).count();
        let mut next: BTreeMap<&str, usize> = BTreeMap::new();
        let mut assignment = Vec::new();
        for want in self.wants {
            let there = of_class.get(want.class.as_str())?;
            // With more of them than the network has, none is known to be the first; a head's dense layers come last.
            if there.len() > n_wanted(&want.class) && want.class != "dense" {
                return None;
            }
            let n = next.entry(&want.class).or_default();
            let layer = *there.get(*n)?;
            *n += 1;
            if !self.fits(layer, want) {
                return None;
            }
            assignment.push(layer);
        }
        Some(assignment)
    }

    /// Layers by their order where they lie in lists within one another, or are attributes that count: `c1` to `c13`. At
    /// every level they must be alike but for their numbers, which tell the order then.
    fn by_lists(&self, under: &[usize]) -> Option<Assignment> {
        let layers = self.file.layers();
        let stem = |group: &str| group.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('_').to_owned();
        let level = |layer: usize| -> Vec<String> {
            let path =
                layers[layer].models.iter().map(|model| model.group.as_str()).chain([layers[layer].group.as_str()]);
            path.map(stem).collect()
        };
        let mut assignment: Vec<Option<usize>> = vec![None; self.wants.len()];
        let classes: BTreeSet<&str> = self.wants.iter().map(|want| want.class.as_str()).collect();
        for class in classes {
            let wanted: Vec<usize> = (0..self.wants.len()).filter(|i| self.wants[*i].class == class).collect();
            // Where the file does not tell classes, numbers of axes do.
            let n_axes: Vec<usize> = self.wants[wanted[0]].shapes.iter().map(Vec::len).collect();
            let is_of_class = |layer: &usize| match &layers[*layer].class {
                Some(own) => own == class,
                None => layers[*layer]
                    .tensors
                    .iter()
                    .map(|i| self.file.tensors()[*i].shape.len())
                    .eq(n_axes.iter().copied()),
            };
            let there: Vec<usize> = under.iter().copied().filter(is_of_class).collect();
            let mut levels: Vec<Vec<String>> = there.iter().map(|layer| level(*layer)).collect();
            levels.dedup();
            if levels.len() != 1 || there.len() != wanted.len() {
                return None;
            }
            for (want, layer) in wanted.into_iter().zip(there) {
                assignment[want] = Some(layer).filter(|layer| self.fits(*layer, &self.wants[want]));
            }
        }
        assignment.into_iter().collect()
    }

    /// The network's layers one after another, in the only place where all fit.
    fn run(&self, own: &[usize]) -> Option<Assignment> {
        let runs = own.windows(self.wants.len().max(1));
        let mut fitting = runs.filter(|run| run.iter().zip(self.wants).all(|(layer, want)| self.fits(*layer, want)));
        let only = fitting.next()?;
        if fitting.next().is_some() { None } else { Some(only.to_vec()) }
    }

    /// Layers by their shapes, where no two of the network's and no two of the file's have the same.
    fn by_shape(&self, under: &[usize]) -> Option<Assignment> {
        let only = |want: &Want| {
            let is_unique = self.wants.iter().filter(|other| other.shapes == want.shapes).count() == 1;
            let mut fitting = under.iter().copied().filter(|layer| self.fits(*layer, want));
            let layer = fitting.next().filter(|_| is_unique)?;
            if fitting.next().is_some() { None } else { Some(layer) }
        };
        self.wants.iter().map(only).collect()
    }

    /// Names and order say different things, and each could be right.
    fn contradiction(&self, places: &Assignment, names: &Assignment) -> Unfit {
        let (layer, want) = places
            .iter()
            .zip(names)
            .zip(self.wants)
            .find_map(|((place, name), want)| (place != name).then(|| (self.file.layers()[*place].called(), want)))
            .expect("they differ");
        Unfit {
            reason: Some(format!(
                "its layers have the network's names in another order: {layer} stands where {} is expected",
                want.name
            )),
            hint: Some("`by: name` goes by the names, `by: position` by the order, as Keras does".to_owned()),
            ..Unfit::default()
        }
    }

    /// What is missing, and what is there instead.
    fn unfit(&self, selection: &Selection) -> Unfit {
        let layers = self.file.layers();
        let all: Vec<usize> = (0..layers.len()).collect();
        if let Some(part) = &selection.part {
            let parts = parts(layers);
            let is_there = parts.iter().any(|path| is_called(path, part));
            let called = |path: &Vec<Part>| {
                format!("`{}`", path.iter().map(|part| part.called.as_str()).collect::<Vec<_>>().join("/"))
            };
            let there = parts.iter().skip(1).map(called).collect::<Vec<_>>().join(", ");
            if !is_there || part.is_empty() {
                let hint =
                    if there.is_empty() { "it has no models within".to_owned() } else { format!("there are {there}") };
                let reason = Some(format!("it has no part `{part}`"));
                return Unfit { reason, hint: Some(hint), ..Unfit::default() };
            }
        }
        let is_doubled = |want: &&Want| all.iter().filter(|layer| self.names[**layer].contains(&want.name)).count() > 1;
        if let Some(want) = self.wants.iter().find(is_doubled) {
            let reason = Some(format!("several of its layers are called {}", want.name));
            let hint =
                Some("`part` or another `rename` tells them apart; renames are done one after the other".to_owned());
            return Unfit { reason, hint, ..Unfit::default() };
        }
        let (mut missing, mut wrong, mut used) = (Vec::new(), Vec::new(), Vec::new());
        for want in self.wants {
            let named = all.iter().copied().find(|layer| self.names[*layer].contains(&want.name));
            let Some(layer) = named else {
                missing.extend(want.tensors.iter().map(|tensor| tensor.keras.clone()));
                continue;
            };
            used.push(layer);
            let stored = &layers[layer].tensors;
            let pairs = want.tensors.iter().zip(stored);
            wrong.extend(pairs.filter_map(|(address, i)| misshaped(self.file, *i, address)));
            missing.extend(want.tensors.iter().skip(stored.len()).map(|tensor| tensor.keras.clone()));
        }
        let others = all.into_iter().filter(|layer| !used.contains(layer));
        let unused: Vec<String> = others.flat_map(|layer| self.listed(layer)).collect();
        let could_be_renamed = !missing.is_empty() && !unused.is_empty();
        let hint = could_be_renamed.then(|| {
            "`rename: { \"^a pattern of its layers$\": \"layer of the network\" }` says which is which, where names and \
             order do not"
                .to_owned()
        });
        Unfit { missing, misshaped: wrong, unused, reason: None, hint }
    }

    /// The tensors of a layer as the file has them, with their shapes.
    fn listed(&self, layer: usize) -> Vec<String> {
        let stored = &self.file.layers()[layer];
        let described = stored.tensors.iter().map(|i| {
            let tensor = &self.file.tensors()[*i];
            let name = printable(&full_name(self.file, *i));
            format!("{name} {:?}", tensor.shape)
        });
        described.collect()
    }
}

fn ambiguous(several: &[Candidate]) -> Unfit {
    let called: Vec<String> = several
        .iter()
        .map(|candidate| {
            if candidate.path.is_empty() {
                "the model itself".to_owned()
            } else {
                format!("`{}`", printable(&candidate.path.join("/")))
            }
        })
        .collect();
    let choices: Vec<String> =
        several.iter().filter_map(|candidate| candidate.path.last()).map(|part| format!("`part: {part}`")).collect();
    Unfit {
        reason: Some(format!("it holds the network {} times, as {}", several.len(), called.join(" and "))),
        hint: Some(format!("choose: {}", choices.join(", or "))),
        ..Unfit::default()
    }
}
