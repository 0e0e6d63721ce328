use std::io::BufRead;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::*;
use crate::weights::digest::Algorithm;
use crate::weights::registry::{Contents, FileHash};

/// What a server does with one request, whose range's start it is told.
type Answer = Box<dyn Fn(&mut TcpStream, u64) + Send>;

/// A server on loopback that answers so many requests, each in its way, and then no more.
struct Server {
    url: String,
    /// The ranges that were asked for.
    starts: Arc<Mutex<Vec<u64>>>,
}

impl Server {
    fn new(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/weights.bin", listener.local_addr().unwrap());
        let starts = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&starts);
        thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                let mut start = 0;
                for line in io::BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok) {
                    if let Some(range) = line.to_lowercase().strip_prefix("range: bytes=") {
                        start = range.trim_end_matches('-').parse().unwrap();
                    }
                    if line.is_empty() {
                        break;
                    }
                }
                seen.lock().unwrap().push(start);
                answer(&mut stream, start);
            }
        });
        Self { url, starts }
    }

    fn starts(&self) -> Vec<u64> {
        self.starts.lock().unwrap().clone()
    }
}

fn content() -> Vec<u8> {
    (0..100_000_u32).map(|i| (i.wrapping_mul(i) >> 5) as u8).collect()
}

/// The published file: its SHA-256 is that of [`content`].
fn published() -> registry::File {
    let written = tempfile::NamedTempFile::new().unwrap();
    fs::write(written.path(), content()).unwrap();
    let digits = Digests::of_file(written.path(), [Algorithm::Sha256])
        .unwrap()
        .digits(Algorithm::Sha256)
        .unwrap()
        .to_owned()
        .leak();
    registry::File {
        name: "weights.bin",
        contents: Contents::Features,
        place: Place::Address("http://127.0.0.1/weights.bin"),
        n_bytes: Some(100_000),
        hash: Some(FileHash::Sha256(digits)),
        verified: false,
    }
}

fn head(stream: &mut TcpStream, status: &str, headers: &str) {
    let _ = stream.write_all(format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n").as_bytes());
}

/// Serves the rest of some bytes from where it is asked, but no more than `n`.
fn part_of(bytes: Vec<u8>, n: usize) -> Answer {
    Box::new(move |stream, start| {
        let rest = &bytes[start as usize..];
        let length = format!("Content-Length: {}\r\nETag: \"one\"\r\n", rest.len());
        match start {
            0 => head(stream, "200 OK", &length),
            start => {
                let range = format!("Content-Range: bytes {start}-{}/{}\r\n", bytes.len() - 1, bytes.len());
                head(stream, "206 Partial Content", &(length + &range));
            }
        }
        let _ = stream.write_all(&rest[..n.min(rest.len())]);
    })
}

fn status(status: &'static str, headers: &'static str) -> Answer {
    Box::new(move |stream, _| head(stream, status, headers))
}

fn fetch(server: &Server, dir: &Path) -> Result<PathBuf, WeightsError> {
    let fetcher =
        Fetcher { agent: agent(Duration::from_secs(5), None), n_attempts: 3, pause: Duration::from_millis(1) };
    fetcher.fetch(Wanted { url: &server.url, file: &published(), dir }, &mut |_| ())
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_file_comes_whole_and_alone() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(vec![part_of(content(), usize::MAX)]);
    let path = fetch(&server, dir.path()).unwrap();
    assert_eq!(fs::read(path).unwrap(), content());
    assert_eq!(names(dir.path()), ["weights.bin"]);
    // It is there now: the server, which answers no more, is not asked.
    fetch(&server, dir.path()).unwrap();
}

#[test]
fn a_cut_connection_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let server =
        Server::new(vec![part_of(content(), 30_000), part_of(content(), 50_000), part_of(content(), usize::MAX)]);
    fetch(&server, dir.path()).unwrap();
    assert_eq!(server.starts(), [0, 30_000, 80_000]);
    assert_eq!(names(dir.path()), ["weights.bin"]);
}

#[test]
fn what_a_fetch_that_gave_up_received_stays_for_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let cut = || part_of(content(), 0);
    let server = Server::new(vec![part_of(content(), 40_000), cut(), cut(), part_of(content(), usize::MAX)]);
    assert!(matches!(fetch(&server, dir.path()), Err(WeightsError::Cut { n_bytes: 40_000, .. })));
    assert!(!dir.path().join("weights.bin").exists());
    fetch(&server, dir.path()).unwrap();
    assert_eq!(server.starts().last(), Some(&40_000));
}

#[test]
fn a_server_that_ignores_ranges_sends_all_of_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let whole = || -> Answer {
        Box::new(|stream, _| {
            head(stream, "200 OK", "Content-Length: 100000\r\n");
            let _ = stream.write_all(&content());
        })
    };
    let server = Server::new(vec![part_of(content(), 10_000), whole()]);
    let path = fetch(&server, dir.path()).unwrap();
    assert_eq!(fs::read(path).unwrap(), content());
    assert_eq!(server.starts(), [0, 10_000]);
}

#[test]
fn another_file_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut other = content();
    other[50_000] ^= 1;
    let server = Server::new(vec![part_of(other, usize::MAX)]);
    assert!(matches!(fetch(&server, dir.path()), Err(WeightsError::Hash { kind: "SHA-256", .. })));
    assert!(names(dir.path()).iter().all(|name| name.ends_with(".lock")), "{:?}", names(dir.path()));
    let server = Server::new(vec![part_of(content()[..99_999].to_vec(), usize::MAX)]);
    assert!(matches!(fetch(&server, dir.path()), Err(WeightsError::Length { expected: 100_000, .. })));
    assert!(!dir.path().join("weights.bin").exists());
}

#[test]
fn a_missing_file_is_not_asked_for_again() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(vec![status("404 Not Found", "Content-Length: 0\r\n")]);
    assert!(matches!(fetch(&server, dir.path()), Err(WeightsError::Refused { status: 404, .. })));
    assert_eq!(server.starts(), [0]);
}

#[test]
fn a_busy_server_is_asked_again_and_a_redirect_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(vec![
        status("503 Service Unavailable", "Content-Length: 0\r\n"),
        status("302 Found", "Location: /elsewhere\r\nContent-Length: 0\r\n"),
        part_of(content(), usize::MAX),
    ]);
    fetch(&server, dir.path()).unwrap();
    assert_eq!(server.starts(), [0, 0, 0]);
}

#[test]
fn a_slow_server_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let slow: Answer = Box::new(|stream, _| {
        head(stream, "200 OK", "Content-Length: 100000\r\n");
        for piece in content().chunks(20_000) {
            let _ = stream.write_all(piece);
            let _ = stream.flush();
            thread::sleep(Duration::from_millis(20));
        }
    });
    fetch(&Server::new(vec![slow]), dir.path()).unwrap();
}

#[test]
fn nobody_there_is_told_with_the_address() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/weights.bin", listener.local_addr().unwrap());
    drop(listener);
    let server = Server { url: url.clone(), starts: Arc::default() };
    let error = fetch(&server, dir.path()).unwrap_err().to_string();
    assert!(error.starts_with(&format!("reach {url}: ")), "{error}");
}

#[test]
fn a_mirror_stands_before_the_name() {
    let file = published();
    assert_eq!(url(&file, None).as_deref(), Some("http://127.0.0.1/weights.bin"));
    assert_eq!(url(&file, Some("https://mirror/a/")).as_deref(), Some("https://mirror/a/weights.bin"));
}
