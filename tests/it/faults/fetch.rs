//! Ctrl-C while a file of weights is fetched.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use crate::faults::until;
use crate::support::{Place, printed};

/// The publisher gives neither a length nor a hash, so that any file of weights may stand for it.
const SOURCE: &str = "mobilenet_v2.keras";
const NAME: &str = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5";

const N_FIRST: usize = 30_000;

/// Safetensors of one tensor.
fn content() -> Vec<u8> {
    const N_BYTES: u32 = 100_000;
    let header = format!("{{\"a\":{{\"dtype\":\"U8\",\"shape\":[{N_BYTES}],\"data_offsets\":[0,{N_BYTES}]}}}}");
    let values = (0..N_BYTES).map(|i| (i * 7 % 251) as u8);
    (header.len() as u64).to_le_bytes().into_iter().chain(header.into_bytes()).chain(values).collect()
}

/// Reads a request and says where the range that it asks for begins.
fn start_of(stream: &TcpStream) -> usize {
    let lines = BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let ranges = lines.filter_map(|line| {
        line.to_lowercase().strip_prefix("range: bytes=").map(|range| range.trim_end_matches('-').parse().unwrap())
    });
    ranges.last().unwrap_or(0)
}

/// Sends a part of the first answer and no more until the client has gone; then answers a second request in full.
fn serve(listener: &TcpListener) -> [usize; 2] {
    let (mut first, _) = listener.accept().unwrap();
    let began = start_of(&first);
    let whole = content();
    write!(first, "HTTP/1.1 200 OK\r\nETag: \"one\"\r\nContent-Length: {}\r\n\r\n", whole.len()).unwrap();
    first.write_all(&whole[..N_FIRST]).unwrap();
    // The end of the stream, or its reset, is the end of the client.
    let _ = BufReader::new(&first).read_until(b'\n', &mut Vec::new());
    let (mut second, _) = listener.accept().unwrap();
    let resumed = start_of(&second);
    let (rest, last) = (&whole[resumed..], whole.len() - 1);
    let range = format!("Content-Range: bytes {resumed}-{last}/{}\r\nContent-Length: {}", whole.len(), rest.len());
    write!(second, "HTTP/1.1 206 Partial Content\r\nETag: \"one\"\r\nConnection: close\r\n{range}\r\n\r\n").unwrap();
    second.write_all(rest).unwrap();
    [began, resumed]
}

#[test]
fn a_fetch_that_is_stopped_keeps_what_it_has_and_the_next_goes_on() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mirror = format!("http://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || serve(&listener));
    let command = || {
        let mut command = place.command(&["weights", "fetch", SOURCE]);
        for proxy in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(proxy);
        }
        command.env("XP_WEIGHTS_URL", &mirror);
        command
    };
    let (path, part) = (place.path("weights").join(NAME), place.path("weights").join(format!("{NAME}.part")));
    let mut child = command().stdout(std::process::Stdio::piped()).spawn().unwrap();
    until("the first part", || fs::metadata(&part).is_ok_and(|part| part.len() == N_FIRST as u64));
    let killed = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!path.exists());
    assert_eq!(fs::read(&part).unwrap(), content()[..N_FIRST]);

    let resumed = printed(&command().output().unwrap());
    assert_eq!(resumed.code, 0, "{}", resumed.stderr);
    assert_eq!(server.join().unwrap(), [0, N_FIRST]);
    assert_eq!(fs::read(&path).unwrap(), content());
    let left: Vec<_> = fs::read_dir(place.path("weights")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [NAME]);
}
