//! What the keys of `plan` do.

use super::Case;
use super::lab::{assert_part_after, assert_same, losses};

pub const CASES: &[Case] = &[
    Case { keys: &["plan", "plan.epochs"], shows: steps_follow_each_other },
    Case {
        keys: &[
            "plan.frozen_layers=all",
            "plan.frozen_layers=none",
            "plan.frozen_layers=<integer>",
            "plan.frozen_layers.stages",
            "plan.frozen_layers.through",
        ],
        shows: a_step_freezes_as_the_model_does,
    },
    Case { keys: &["plan.frozen_layers"], shows: layers_come_free_and_what_trained_keeps_its_state },
    Case {
        keys: &["plan.learning_rate", "plan.learning_rate=<number>", "plan.learning_rate.*"],
        shows: a_step_has_its_rates,
    },
];

/// Two steps that change nothing are none.
fn steps_follow_each_other() {
    let steps = "plan=[{ epochs: 2 }, { epochs: 1 }]";
    assert_same(&losses(&[steps]), &losses(&[]));
    let adam = "optimizer={ adam: { learning_rate: 0.1 } }";
    assert_same(&losses(&[adam, steps]), &losses(&[adam]));
}

/// Where the layers that come free cannot move, the head goes on with its velocity.
fn layers_come_free_and_what_trained_keeps_its_state() {
    let momentum = "optimizer={ sgd: { learning_rate: 0.1, momentum: 0.9 } }";
    let with = |rate: &str| {
        let free = format!("{{ epochs: 1, frozen_layers: {{ stages: 8 }}, learning_rate: {rate} }}");
        losses(&[momentum, &format!("plan=[{{ epochs: 3, frozen_layers: all }}, {free}]")])
    };
    let (whole, still, moving) = (losses(&[momentum]), with("{ conv_head: 1e-12 }"), with("{ conv_head: 0.1 }"));
    // Folded or not, the norms of the layers that came free round differently.
    let gap = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs() / a).fold(0.0, f64::max);
    assert!(gap(&whole, &still) < 1e-4, "{whole:?} {still:?}");
    assert!(gap(&whole[..4], &moving[..4]) < 1e-4 && gap(&whole[4..], &moving[4..]) > 1e-3, "{whole:?} {moving:?}");
    // Momentum from nothing would have come elsewhere.
    let plain = losses(&["optimizer={ sgd: { learning_rate: 0.1 } }"]);
    assert!(gap(&whole, &plain) > 1e-2, "{whole:?} {plain:?}");
}

fn a_step_freezes_as_the_model_does() {
    let fast = "epochs=2";
    for frozen in ["all", "none", "47", "{ stages: 8 }", "{ through: blocks.6.0.conv_dw }"] {
        let steps = format!("plan=[{{ epochs: 2, frozen_layers: {frozen} }}]");
        let (model, step) = (format!("model.frozen_layers={frozen}"), losses(&[fast, &steps]));
        assert_same(&losses(&[fast, &model]), &step);
        assert_eq!(frozen == "all", step == losses(&[fast]), "{frozen}");
    }
}

fn a_step_has_its_rates() {
    for rate in ["0.1", "{ head: 0.1 }"] {
        let steps = format!("plan=[{{ epochs: 2 }}, {{ epochs: 1, learning_rate: {rate} }}]");
        assert_part_after(3, &losses(&[]), &losses(&[&steps]));
        let back = format!("plan=[{{ epochs: 2, learning_rate: {rate} }}, {{ epochs: 1 }}]");
        assert_part_after(1, &losses(&[]), &losses(&[&back]));
        assert_same(
            &losses(&[&back])[..2],
            &losses(&[&format!("learning_rates={rate}").replace("=0.1", "={ head: 0.1 }")])[..2],
        );
    }
}
