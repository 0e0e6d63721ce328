//! A panic inside burn.

use xp::spec::schema::model::{Activation, Dense, HeadLayer};
use xp::store::runs::Ending;

use crate::faults::InLibrary;
use crate::faults::mounts::alone;
use crate::support::Place;

#[test]
fn one_inside_burn_fails_the_run_with_its_place_and_prints_nothing() {
    let printed = alone("faults::panics::one_inside_burn_fails_the_run_with_its_place_and_prints_nothing", || {
        let place = Place::new();
        let library = InLibrary::new(&place);
        let (loaded, mut plan) = library.plan();
        // No spec can ask for this: a head whose input does not fit the backbone's output.
        plan.network.head.layers =
            vec![HeadLayer::GlobalAveragePool, HeadLayer::Dense(Dense { units: 2, activation: Activation::Softmax })];
        plan.network.head.dense[0].n_in = 7;
        let ending = library.launch("panicked", &loaded, &plan, &mut |_, _| {}).unwrap();
        let Ending::Failed(error) = ending else { panic!("{ending:?}") };
        assert!(error.message.starts_with("panicked: "), "{error:?}");
        assert!(error.place.unwrap().contains("burn"), "it happened elsewhere");
        let shown = place.json(&["show", "panicked", "--json"]);
        assert_eq!(shown["state"], "failed");
        assert_eq!(shown["error"]["message"], error.message);
        // The same process can still run something.
        let ending = library.run("after", |_, _| {}).unwrap();
        assert_eq!(ending, Ending::Finished);
    });
    if let Some(printed) = printed {
        assert_eq!(printed, "");
    }
}
