//! Finding the run that someone means.

use crate::run::id::RunId;
use crate::store::StoreError;
use crate::store::connect::Store;

/// A run that a query may mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub id: RunId,
    pub name: String,
}

impl Store {
    /// Finds the run that a `RUN` argument means.
    ///
    /// That is an id, a name, `@1` for the newest and so on, or else any prefix or suffix of an id or a prefix of a name
    /// that fits one run alone. Ids are compared without regard to case.
    pub async fn find_run(&self, query: &str) -> Result<RunId, StoreError> {
        let rows: Vec<(String, String)> =
            sqlx::query_as("SELECT id, name FROM runs ORDER BY created_at_ms DESC, id DESC")
                .fetch_all(&self.pool)
                .await?;
        let newest_first: Vec<Candidate> =
            rows.into_iter().map(|(id, name)| Candidate { id: RunId::from_stored(id), name }).collect();
        choose(query, &newest_first).cloned()
    }
}

/// Chooses the run that a query means.
fn choose<'a>(query: &str, newest_first: &'a [Candidate]) -> Result<&'a RunId, StoreError> {
    let not_found = || StoreError::NotFound { query: query.to_owned() };
    if query.is_empty() {
        return Err(not_found());
    }
    if let Some(place) = query.strip_prefix('@').and_then(|digits| digits.parse::<usize>().ok()) {
        let run = place.checked_sub(1).and_then(|place| newest_first.get(place));
        return run.map(|run| &run.id).ok_or_else(not_found);
    }
    let whole = |run: &&Candidate| run.id.as_str().eq_ignore_ascii_case(query);
    let exact = newest_first.iter().find(whole);
    if let Some(run) = exact.or_else(|| newest_first.iter().find(|run| run.name == query)) {
        return Ok(&run.id);
    }
    let matches: Vec<&Candidate> = newest_first.iter().filter(|run| matches_in_part(run, query)).collect();
    match matches[..] {
        [] => Err(not_found()),
        [run] => Ok(&run.id),
        _ => Err(StoreError::Ambiguous { query: query.to_owned(), candidates: matches.into_iter().cloned().collect() }),
    }
}

fn matches_in_part(run: &Candidate, query: &str) -> bool {
    let (id, part) = (run.id.as_str().as_bytes(), query.as_bytes());
    let n = part.len();
    let in_id = n <= id.len() && (id[..n].eq_ignore_ascii_case(part) || id[id.len() - n..].eq_ignore_ascii_case(part));
    in_id || run.name.starts_with(query)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sample::{self, wait};

    const RUNS: [(&str, &str); 4] = [
        ("01JDB3M8T2ZQ4V5W6X7Y8Z9ABC", "fashion-brave-otter-2"),
        ("01JDB3M8T2ZQ4V5W6X7Y8Z0XYZ", "fashion-brave-otter"),
        ("01JDA3M8T2ZQ4V5W6X7Y8Z9BBC", "cats-calm-fern"),
        ("01JD93M8T2ZQ4V5W6X7Y8Z9DEF", "01JDA-oddly-named"),
    ];

    /// The run's place in the table, or how many runs match.
    fn found(query: &str) -> Result<usize, usize> {
        let runs = RUNS.map(|(id, name)| Candidate { id: sample::id(id), name: name.to_owned() });
        match choose(query, &runs) {
            Ok(id) => Ok(runs.iter().position(|run| run.id == *id).unwrap()),
            Err(StoreError::NotFound { .. }) => Err(0),
            Err(StoreError::Ambiguous { candidates, .. }) => Err(candidates.len()),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn a_run_is_found_by_id_name_part_or_place() {
        for (query, expected) in [
            ("01JDB3M8T2ZQ4V5W6X7Y8Z9ABC", Ok(0)),
            ("01jdb3m8t2zq4v5w6x7y8z9abc", Ok(0)),
            ("01JDB", Err(2)),
            ("01JD9", Ok(3)),
            ("Z9ABC", Ok(0)),
            ("9abc", Ok(0)),
            ("bc", Err(2)),
            ("bbc", Ok(2)),
            ("fashion-brave-otter", Ok(1)),
            ("fashion-brave-otter-", Ok(0)),
            ("fashion", Err(2)),
            ("Fashion-brave-otter", Err(0)),
            ("ca", Ok(2)),
            ("01JDA", Err(2)),
            ("otter", Err(0)),
            ("@1", Ok(0)),
            ("@4", Ok(3)),
            ("@5", Err(0)),
            ("@0", Err(0)),
            ("@", Err(0)),
            ("@x", Err(0)),
            ("", Err(0)),
            ("é", Err(0)),
            ("01JDB3M8T2ZQ4V5W6X7Y8Z9ABCD", Err(0)),
        ] {
            assert_eq!(found(query), expected, "{query:?}");
        }
    }

    #[test]
    fn the_first_is_the_newest_in_the_database() {
        wait(async {
            let (_folder, store) = sample::store().await;
            assert!(matches!(store.find_run("@1").await, Err(StoreError::NotFound { .. })));
            for (id, created_at_ms) in [("A", 2), ("B", 3), ("C", 1)] {
                store.create_run(&sample::new_run(id, "owl", created_at_ms)).await.unwrap();
            }
            assert_eq!(store.find_run("@1").await.unwrap(), sample::id("B"));
            assert_eq!(store.find_run("@3").await.unwrap(), sample::id("C"));
            assert_eq!(store.find_run("owl-2").await.unwrap(), sample::id("B"));
        });
    }
}
