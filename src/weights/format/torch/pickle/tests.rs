use super::*;

/// `pickle.dumps({"a": [1, -2, 300, 2**40, True, None, "é", 1.5, b"xy"], "b": (1, (2,), ()), "c": deque([7]), "d": {3}}, p)`
/// of Python 3.11 for the protocols 0 to 5.
const SAME: [&str; 6] = [
    "286470300a56610a70310a286c70320a49310a61492d320a61493330300a614c313039393531313632373737364c0a614930310a614e6156e90a70330a6146312e350a61635f636f646563730a656e636f64650a70340a285678790a70350a566c6174696e310a70360a7470370a5270380a617356620a70390a2849310a2849320a747031300a2874747031310a7356630a7031320a63636f6c6c656374696f6e730a64657175650a7031330a2874527031340a49370a617356640a7031350a635f5f6275696c74696e5f5f0a7365740a7031360a28286c7031370a49330a61747031380a527031390a732e",
    "7d71002858010000006171015d7102284b014afeffffff4d2c014c313039393531313632373737364c0a4930310a4e5802000000c3a97103473ff8000000000000635f636f646563730a656e636f64650a71042858020000007879710558060000006c6174696e317106747107527108655801000000627109284b01284b0274710a2974710b580100000063710c63636f6c6c656374696f6e730a64657175650a710d2952710e4b0761580100000064710f635f5f6275696c74696e5f5f0a7365740a7110285d71114b0361747112527113752e",
    "80027d71002858010000006171015d7102284b014afeffffff4d2c018a06000000000001884e5802000000c3a97103473ff8000000000000635f636f646563730a656e636f64650a710458020000007879710558060000006c6174696e3171068671075271086558010000006271094b014b0285710a2987710b580100000063710c63636f6c6c656374696f6e730a64657175650a710d2952710e4b0761580100000064710f635f5f6275696c74696e5f5f0a7365740a71105d71114b0361857112527113752e",
    "80037d71002858010000006171015d7102284b014afeffffff4d2c018a06000000000001884e5802000000c3a97103473ff80000000000004302787971046558010000006271054b014b0285710629877107580100000063710863636f6c6c656374696f6e730a64657175650a71092952710a4b0761580100000064710b636275696c74696e730a7365740a710c5d710d4b036185710e52710f752e",
    "8004956d000000000000007d94288c0161945d94284b014afeffffff4d2c018a06000000000001884e8c02c3a994473ff80000000000004302787994658c0162944b014b0285942987948c0163948c0b636f6c6c656374696f6e73948c0564657175659493942952944b07618c0164948f94284b0390752e",
    "8005956d000000000000007d94288c0161945d94284b014afeffffff4d2c018a06000000000001884e8c02c3a994473ff80000000000004302787994658c0162944b014b0285942987948c0163948c0b636f6c6c656374696f6e73948c0564657175659493942952944b07618c0164948f94284b0390752e",
];

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

/// A value as text; objects as what they were made of.
fn text(pickle: &Pickle, id: Id) -> String {
    let all = |ids: &[Id]| ids.iter().map(|id| text(pickle, *id)).collect::<Vec<_>>().join(" ");
    match pickle.value(id) {
        Value::None => "None".to_owned(),
        Value::Bool(bool) => bool.to_string(),
        Value::Int(int) => int.to_string(),
        Value::Other => "?".to_owned(),
        Value::Text(text) => format!("{text:?}"),
        Value::Sequence(items) => format!("[{}]", all(items)),
        Value::Dict(entries) => {
            let entries: Vec<String> = entries
                .iter()
                .map(|(key, value)| format!("{}: {}", text(pickle, *key), text(pickle, *value)))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Global(name) => name.to_string(),
        Value::Persistent(id) => format!("<{}>", text(pickle, *id)),
        Value::Made(made) => {
            let (callable, arguments) = (text(pickle, made.callable), text(pickle, made.arguments));
            format!("{callable}{arguments}+[{}]", all(&made.items))
        }
    }
}

#[test]
fn every_protocol_gives_the_same_values() {
    for (protocol, hex) in SAME.into_iter().enumerate() {
        let bytes = bytes(hex);
        let mut rest = &[&bytes[..], b"behind"].concat()[..];
        let pickle = Pickle::read(&mut rest).unwrap();
        assert_eq!(rest, b"behind", "{protocol}");
        let Value::Dict(entries) = pickle.value(pickle.root) else { panic!("it is a dict") };
        let value = |key: &str| text(&pickle, entries.iter().find(|(at, _)| pickle.text(*at) == Some(key)).unwrap().1);
        let list = value("a");
        assert!(list.starts_with("[1 -2 300 1099511627776 true None \"é\" ? "), "{protocol}: {list}");
        assert_eq!(value("b"), "[1 [2] []]", "{protocol}");
        assert!(value("c").contains("collections.deque") && value("c").ends_with("+[7]"), "{protocol}: {}", value("c"));
        assert!(value("d").contains('3'), "{protocol}: {}", value("d"));
    }
}

/// Bytes that are cut or changed are errors or other values, and never more.
#[test]
fn damaged_pickles_end() {
    let mut n_errors = 0;
    for hex in SAME {
        let whole = bytes(hex);
        for len in 0..whole.len() {
            assert!(Pickle::read(&mut &whole[..len]).is_err());
            for bit in 0..8 {
                let mut changed = whole.clone();
                changed[len] ^= 1 << bit;
                n_errors += usize::from(Pickle::read(&mut &changed[..]).is_err());
            }
        }
    }
    assert!(n_errors > 100, "{n_errors}");
}

#[test]
fn what_would_take_memory_without_end_is_refused() {
    // Twenty million empty tuples.
    let many = [&b"\x80\x02"[..], &b")".repeat(20 << 20), b"."].concat();
    assert!(matches!(Pickle::read(&mut &many[..]), Err(PickleError::TooMany)));
    // A million lists within one another, which ends no stack.
    let deep = [&b"\x80\x02"[..], &b"]".repeat(1 << 20), &b"a".repeat((1 << 20) - 1), b"."].concat();
    assert!(Pickle::read(&mut &deep[..]).is_ok());
    // A string that says it is longer than the file.
    assert!(matches!(Pickle::read(&mut &b"\x80\x02X\xff\xff\xff\x7fabc"[..]), Err(PickleError::Ends)));
}
