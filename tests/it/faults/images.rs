//! Images that are removed or changed while a run needs them again.

use std::fs;
use std::path::Path;

use xp::run::event::{Event, Phase};
use xp::settings::Resources;
use xp::store::runs::Ending;

use crate::faults::{InLibrary, goes_on_to_the_same_bytes, n_committed};
use crate::support::Place;

/// Fails a run whose images are read again in every epoch, by doing something to one of them in its third epoch.
fn fails_when(name: &str, harm: impl Fn(&Path), why: &str) {
    let place = Place::new();
    place.edit("epochs: 2", "epochs: 200\naugment: { horizontal_flip: true }");
    let library = InLibrary::new(&place);
    let library = InLibrary { resources: Resources { pixel_budget_bytes: 0, ..library.resources }, ..library };
    let image = place.path("data/train/red/3.png");
    let bytes = fs::read(&image).unwrap();
    let ending = library.run(name, |event, _| {
        if matches!(event, Event::PhaseStarted { phase: Phase::Train { epoch: 3, .. }, .. }) {
            harm(&image);
        }
    });
    let Ending::Failed(error) = ending.unwrap() else { panic!("it did not fail") };
    assert!(error.message.contains("red/3.png") && error.message.contains(why), "{}", error.message);
    let shown = place.json(&["show", name, "--json"]);
    assert_eq!((&shown["state"], &shown["error"]["message"]), (&"failed".into(), &error.message.into()));
    assert!(n_committed(&place, name) >= 2);

    // Without the image it is another run; with it, it goes on.
    let printed = place.xp(&["resume", name]);
    assert_eq!(printed.code, 1);
    assert!(printed.stderr.contains(&format!("xp resume {name}")), "{}", printed.stderr);
    fs::write(&image, bytes).unwrap();
    place.edit("epochs: 200", "epochs: 2");
    goes_on_to_the_same_bytes(&place, name);
}

#[test]
fn a_removed_one_fails_the_run_by_name_and_the_run_goes_on_once_it_is_back() {
    fails_when("removed", |image| fs::remove_file(image).unwrap(), "No such file");
}

#[test]
fn a_changed_one_fails_the_run_by_name_and_the_run_goes_on_once_it_is_back() {
    let other = |image: &Path| fs::copy(image.with_file_name("2.png"), image).map(drop).unwrap();
    fails_when("changed", other, "it has changed since the run began");
}
