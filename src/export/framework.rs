//! Whose network an export in PyTorch's axes is: which package builds it, and what that calls the classifier.

use serde_json::{Value, json};

use crate::export::Trained;
use crate::models::head::HeadPlan;
use crate::models::layout::Form;
use crate::models::operation::Names;
use crate::spec::schema::model::{BackboneName, HeadLayer};

/// A network of torchvision or timm that computes what ours does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Framework {
    pub package: &'static str,
    /// As the package calls it: `tf_efficientnet_lite0`.
    pub model: String,
    /// The module of the classifier: `fc`.
    classifier: &'static str,
    /// Whether the package builds it with any number of classes; of the others the classifier is replaced.
    has_own_classifier: bool,
}

impl Framework {
    /// `None` of a network in a form that neither package has: its tensors fit a strict load, and its answers would be
    /// others.
    pub fn of(backbone: BackboneName, form: Form) -> Option<Self> {
        let torchvision = |classifier, has_own_classifier| Self {
            package: "torchvision",
            model: backbone.as_str().to_owned(),
            classifier,
            has_own_classifier,
        };
        match backbone {
            BackboneName::VggTiny => None,
            BackboneName::Vgg11
            | BackboneName::Vgg13
            | BackboneName::Vgg16
            | BackboneName::Vgg19
            | BackboneName::Vgg11Bn
            | BackboneName::Vgg13Bn
            | BackboneName::Vgg16Bn
            | BackboneName::Vgg19Bn => Some(torchvision("classifier", false)),
            BackboneName::Resnet18 | BackboneName::Resnet34 => Some(torchvision("fc", true)),
            BackboneName::Resnet50 | BackboneName::Resnet101 | BackboneName::Resnet152 => {
                (form != Form::Keras).then(|| torchvision("fc", true))
            }
            BackboneName::MobilenetV2 => (form != Form::Keras).then(|| torchvision("classifier.1", true)),
            BackboneName::EfficientnetLite0
            | BackboneName::EfficientnetLite1
            | BackboneName::EfficientnetLite2
            | BackboneName::EfficientnetLite3
            | BackboneName::EfficientnetLite4 => {
                let prefix = if form == Form::TimmEven { "" } else { "tf_" };
                Some(Self {
                    package: "timm",
                    model: format!("{prefix}{}", backbone.as_str()),
                    classifier: "classifier",
                    has_own_classifier: true,
                })
            }
        }
    }

    /// What to do for a strict load of an export.
    fn how_to_build(&self, head: &HeadPlan) -> Option<String> {
        if !is_one_dense(head) {
            return None;
        }
        let (package, model) = (self.package, &self.model);
        let (n_in, units) = (head.dense[0].n_in, head.dense[0].units);
        let create = |arguments: String| match package {
            "timm" => format!("model = timm.create_model(\"{model}\", {arguments})"),
            _ => format!("model = torchvision.models.{model}({arguments})"),
        };
        Some(if self.has_own_classifier {
            create(format!("num_classes={units}"))
        } else {
            format!(
                "{}; model.avgpool = torch.nn.AdaptiveAvgPool2d(1); model.{} = torch.nn.Linear({n_in}, {units})",
                create(String::new()),
                self.classifier
            )
        })
    }

    /// How a stranger builds the network, and loads the export into it.
    pub fn json(&self, head: &HeadPlan) -> Value {
        let build = self.how_to_build(head);
        json!({
            "package": self.package,
            "model": self.model,
            "build": build,
            "load": build.as_ref().map(|_| "model.load_state_dict(safetensors.torch.load_file(FILE)); model.eval()"),
            "gives": "logits",
        })
    }
}

/// Whether a head is a pooling and, at its end, the only layer with tensors: what classifiers of others are.
fn is_one_dense(head: &HeadPlan) -> bool {
    head.dense.len() == 1
        && matches!(head.layers.first(), Some(HeadLayer::GlobalAveragePool))
        && matches!(head.layers.last(), Some(HeadLayer::Dense(_)))
}

/// The network with its tensors named as in the package that has it: a head of one dense layer as its classifier, other
/// heads as here. A network that no package has keeps our names, so that it loads into none by mistake.
pub fn named(trained: &Trained, framework: Option<&Framework>) -> Trained {
    let mut named = trained.clone();
    match framework {
        Some(framework) if is_one_dense(&trained.plan.head) => {
            let dense = &mut named.plan.head.dense[0];
            let ours = dense.names.own().to_owned();
            dense.names = Names::both(ours.clone(), framework.classifier);
            for (address, _) in &mut named.tensors {
                let field = address.name.strip_prefix(&ours).and_then(|rest| rest.strip_prefix('.'));
                if let Some(field) = field.map(str::to_owned) {
                    address.torch = format!("{}.{field}", framework.classifier);
                }
            }
        }
        Some(_) => {}
        None => named.tensors.iter_mut().for_each(|(address, _)| address.torch.clone_from(&address.name)),
    }
    named
}
