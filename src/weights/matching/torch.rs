//! PyTorch's files: tensors by their names, under whatever prefix and in whatever dictionary all of them stand.

use std::collections::{BTreeMap, HashMap};

use regex::Regex;

use crate::models::parameters::TensorAddress;
use crate::spec::schema::weights::Selection;
use crate::weights::format::TensorFile;
use crate::weights::matching::{
    How, Matched, Unfit, Wanted, full_name, is_no_weight, misshaped, naming, printable, renamed, unused,
};

/// Prefixes that are looked at, those of most tensors first.
const MAX_CANDIDATES: usize = 256;

/// All tensors that stand under one prefix by one convention of naming.
#[derive(Debug)]
struct Candidate {
    /// What stands before every name, the dictionary's keys included.
    prefix: String,
    /// The dictionary: the part of the prefix that is no part of the names.
    group: String,
    convention: usize,
    /// Tensors of the file by the address' place.
    indices: BTreeMap<usize, usize>,
    /// A name that several tensors have.
    doubled: Option<String>,
}

impl Candidate {
    /// Its prefix as a message shows it.
    fn called(&self) -> String {
        format!("`{}`", printable(self.prefix.trim_end_matches('.')))
    }
}

pub(super) fn matched(
    file: &dyn TensorFile,
    wanted: Wanted<'_>,
    selection: &Selection,
    renames: &[(Regex, String)],
) -> Result<Matched, Unfit> {
    let (backbone, top) = (wanted.of_backbone(), wanted.of_top());
    let addresses: Vec<&TensorAddress> = backbone.iter().chain(&top).collect();
    let conventions = naming::conventions(wanted.layout, wanted.head());
    let names: Vec<String> = (0..file.tensors().len()).map(|i| renamed_in_group(file, i, renames)).collect();
    let mut candidates = candidates(file, &names, &addresses, &conventions, selection);
    // The classifier of some stands beside the part that holds the rest.
    for candidate in &mut candidates {
        add_top(candidate, &names, &addresses[backbone.len()..], backbone.len(), &conventions);
    }
    let is_whole = |candidate: &Candidate| {
        candidate.indices.len() == addresses.len()
            && candidate.doubled.is_none()
            && candidate.indices.iter().all(|(at, i)| misshaped(file, *i, addresses[*at]).is_none())
    };
    let (whole, partial): (Vec<_>, Vec<_>) = candidates.into_iter().partition(is_whole);
    let (taken, warning) = match &whole[..] {
        [] => return Err(unfit(file, &partial, &addresses, &conventions, selection)),
        [only] => (only, None),
        several => chosen(several)?,
    };
    let indices: HashMap<String, usize> =
        taken.indices.iter().map(|(at, i)| (addresses[*at].name.clone(), *i)).collect();
    let how = if renames.is_empty() { How::Names } else { How::Renamed };
    // What stands in other dictionaries, such as an optimizer's, is not the network's.
    let in_group = |name: &String| taken.group.is_empty() || name.starts_with(&format!("{}.", taken.group));
    let naming = &conventions[taken.convention];
    let classifiers: Vec<String> = wanted.head().dense.iter().map(|dense| naming.module(&dense.names.torch)).collect();
    let own_name = |i: usize| {
        let full = full_name(file, i);
        full.strip_prefix(&taken.prefix).map_or(full.clone(), str::to_owned)
    };
    let unused = unused(file, &indices, &classifiers, own_name).into_iter().filter(in_group).collect();
    let prefix = (!taken.prefix.is_empty()).then(|| taken.called());
    Ok(Matched { indices, how, taken: prefix, warnings: warning.into_iter().collect(), unused })
}

fn renamed_in_group(file: &dyn TensorFile, index: usize, renames: &[(Regex, String)]) -> String {
    let tensor = &file.tensors()[index];
    let name = renamed(&tensor.name, renames);
    if tensor.group.is_empty() { name } else { format!("{}.{name}", tensor.group) }
}

/// Every prefix under which any of the tensors stand, as the selection allows.
fn candidates(
    file: &dyn TensorFile,
    names: &[String],
    addresses: &[&TensorAddress],
    conventions: &[naming::Names],
    selection: &Selection,
) -> Vec<Candidate> {
    let mut found: BTreeMap<(usize, &str), Candidate> = BTreeMap::new();
    for (convention, naming) in conventions.iter().enumerate() {
        let known: HashMap<String, usize> =
            addresses.iter().enumerate().map(|(at, address)| (naming.of(address), at)).collect();
        for (i, name) in names.iter().enumerate() {
            let group = &file.tensors()[i].group;
            if !is_in(name, group, selection.key.as_deref()) {
                continue;
            }
            let starts = [0].into_iter().chain(name.match_indices('.').map(|(dot, _)| dot + 1));
            for start in starts {
                let Some(at) = known.get(&name[start..]) else { continue };
                let prefix = &name[..start];
                if !fits(prefix, group, selection) {
                    continue;
                }
                let candidate = found.entry((convention, prefix)).or_insert_with(|| Candidate {
                    prefix: prefix.to_owned(),
                    group: group.clone(),
                    convention,
                    indices: BTreeMap::new(),
                    doubled: None,
                });
                let before = candidate.indices.insert(*at, i);
                if before.is_some_and(|before| !file.are_one(before, i)) {
                    candidate.doubled.get_or_insert_with(|| name.clone());
                }
            }
        }
    }
    let mut all: Vec<Candidate> = found.into_values().collect();
    // Two conventions may call the same tensors alike.
    all.sort_by(|a, b| b.indices.len().cmp(&a.indices.len()).then(a.convention.cmp(&b.convention)));
    all.truncate(MAX_CANDIDATES);
    let mut distinct: Vec<Candidate> = Vec::new();
    for candidate in all {
        let is_same = |known: &Candidate| {
            known.indices.keys().eq(candidate.indices.keys())
                && known.indices.values().zip(candidate.indices.values()).all(|(a, b)| file.are_one(*a, *b))
        };
        if !distinct.iter().any(is_same) {
            distinct.push(candidate);
        }
    }
    distinct
}

/// Whether a tensor stands under `key`: in that dictionary, in one within it, or in a module that is kept under it.
fn is_in(name: &str, group: &str, key: Option<&str>) -> bool {
    let is_under = |path: &str, key: &str| path.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'));
    key.is_none_or(|key| group == key || is_under(group, key) || is_under(name, key))
}

/// Whether what stands before the names, in their dictionary or behind the key, is what `prefix` says.
fn fits(prefix: &str, group: &str, selection: &Selection) -> bool {
    let Some(wanted) = &selection.prefix else { return true };
    let bases = [Some(group), selection.key.as_deref()];
    bases.into_iter().flatten().any(|base| {
        let within = prefix.strip_prefix(base).unwrap_or(prefix).trim_start_matches('.');
        within.trim_end_matches('.') == wanted.trim_end_matches('.')
    })
}

/// Looks for a classifier's tensors where the rest stands, else outside of the last part of its prefix.
fn add_top(
    candidate: &mut Candidate,
    names: &[String],
    top: &[&TensorAddress],
    first: usize,
    conventions: &[naming::Names],
) {
    let naming = &conventions[candidate.convention];
    let outer = candidate.prefix.trim_end_matches('.').rsplit_once('.').map_or("", |(outer, _)| outer);
    let outer = if outer.is_empty() { String::new() } else { format!("{outer}.") };
    for (at, address) in top.iter().enumerate() {
        let name = naming.of(address);
        let found = names.iter().position(|stored| *stored == format!("{outer}{name}"));
        if let Some(i) = found {
            candidate.indices.entry(first + at).or_insert(i);
        }
    }
}

/// One of several that fit: a moving average beside what it was made of, as timm takes it.
fn chosen(several: &[Candidate]) -> Result<(&Candidate, Option<String>), Unfit> {
    let (averages, others): (Vec<&Candidate>, Vec<&Candidate>) =
        several.iter().partition(|candidate| is_average(&candidate.prefix));
    if let ([average], [other]) = (&averages[..], &others[..]) {
        let warning = format!(
            "the file has weights ({}) and their moving average ({}): the average is taken, as timm does; {} takes the others",
            other.called(),
            average.called(),
            how_to_choose(other, several)
        );
        return Ok((average, Some(warning)));
    }
    let names: Vec<String> = several.iter().map(Candidate::called).collect();
    let choices: Vec<String> = several.iter().map(|candidate| how_to_choose(candidate, several)).collect();
    Err(Unfit {
        reason: Some(format!("it holds the network {} times, as {}", several.len(), names.join(" and "))),
        hint: Some(format!("choose: {}", choices.join(", or "))),
        ..Unfit::default()
    })
}

/// `key: state_dict_ema`, or `prefix: teacher` where all stand in one dictionary.
fn how_to_choose(candidate: &Candidate, among: &[Candidate]) -> String {
    let is_alone = among.iter().filter(|other| other.group == candidate.group).count() == 1;
    if is_alone && !candidate.group.is_empty() {
        return format!("`key: {}`", candidate.group);
    }
    let within = candidate.prefix.strip_prefix(&candidate.group).unwrap_or(&candidate.prefix);
    match within.trim_matches('.') {
        "" => "`prefix: \"\"`".to_owned(),
        within => format!("`prefix: {within}`"),
    }
}

/// `state_dict_ema`, `model_ema`, `ema`, `ema_model`.
fn is_average(prefix: &str) -> bool {
    prefix.split(['.', '_']).any(|word| word.eq_ignore_ascii_case("ema"))
}

/// Nothing stands under `key`; the dictionaries that there are.
fn no_such_key(file: &dyn TensorFile, key: &str) -> Unfit {
    let mut names: Vec<&str> = file.tensors().iter().map(|tensor| tensor.group.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let names: Vec<String> =
        names.into_iter().filter(|name| !name.is_empty()).map(|name| format!("`{}`", printable(name))).collect();
    let there = if names.is_empty() {
        "it has no dictionaries within".to_owned()
    } else {
        format!("there are {}", names.join(", "))
    };
    Unfit { reason: Some(format!("it has nothing under the key `{key}`")), hint: Some(there), ..Unfit::default() }
}

/// What is missing of the candidate that has most, or what can be chosen from.
fn unfit(
    file: &dyn TensorFile,
    partial: &[Candidate],
    addresses: &[&TensorAddress],
    conventions: &[naming::Names],
    selection: &Selection,
) -> Unfit {
    let is_of_key = |i: usize| is_in(&full_name(file, i), &file.tensors()[i].group, selection.key.as_deref());
    if let Some(key) = selection.key.as_deref()
        && !(0..file.tensors().len()).any(is_of_key)
    {
        return no_such_key(file, key);
    }
    if let (Some(prefix), []) = (&selection.prefix, partial) {
        let names: Vec<String> = (0..file.tensors().len()).map(|i| full_name(file, i)).collect();
        let any = Selection { prefix: None, ..selection.clone() };
        let there = candidates(file, &names, addresses, conventions, &any);
        let most = there.first().map_or(0, |candidate| candidate.indices.len());
        let there: Vec<String> =
            there.iter().filter(|candidate| candidate.indices.len() == most).map(Candidate::called).collect();
        let reason = Some(format!("it has nothing of the network under the prefix `{prefix}`"));
        let hint = match there.is_empty() {
            true => "it has nothing of the network anywhere".to_owned(),
            false => format!("the network stands under {}", there.join(" and ")),
        };
        return Unfit { reason, hint: Some(hint), ..Unfit::default() };
    }
    let others: Vec<usize> = (0..file.tensors().len()).filter(|i| is_of_key(*i)).collect();
    let best = partial.first();
    if let Some(name) = best.and_then(|best| best.doubled.as_ref()) {
        let reason = format!("several of its tensors are called {}", printable(name));
        let hint = "`key`, `prefix` or another `rename` tells them apart".to_owned();
        return Unfit { reason: Some(reason), hint: Some(hint), ..Unfit::default() };
    }
    let used = |i: &usize| best.is_some_and(|best| best.indices.values().any(|used| used == i));
    let unused = others.into_iter().filter(|i| !used(i) && !is_no_weight(&file.tensors()[*i].name));
    let unused = unused.map(|i| printable(&full_name(file, i))).collect();
    let naming = &conventions[best.map_or(0, |best| best.convention)];
    let missing = addresses.iter().enumerate().filter(|(at, _)| best.is_none_or(|best| !best.indices.contains_key(at)));
    let prefix = best.map_or("", |best| best.prefix.as_str());
    let missing = missing.map(|(_, address)| format!("{prefix}{}", naming.of(address))).collect();
    let found = best.into_iter().flat_map(|best| &best.indices);
    let misshaped = found.filter_map(|(at, i)| misshaped(file, *i, addresses[*at])).collect();
    Unfit { missing, misshaped, unused, reason: None, hint: None }
}
