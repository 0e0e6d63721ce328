//! What the machine does while a run goes, looked at every few seconds on a thread of its own.
//!
//! Nothing ever waits for it: its queue is small, and a look that finds it full is dropped and counted. A GPU is looked
//! at where the driver's library can be loaded; without one there is nothing to say.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use nvml_wrapper::Nvml;
use sysinfo::{MINIMUM_CPU_UPDATE_INTERVAL, Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::launch::commit::now_ms;
use crate::run::system::{
    CPU_PERCENT, MEMORY_AVAILABLE_BYTES, MEMORY_USED_BYTES, PROCESS_CPU_PERCENT, PROCESS_MEMORY_BYTES, SystemSample,
    gpu_memory_bytes, gpu_percent,
};

/// Early enough for a short run to have one.
const FIRST_AFTER: Duration = Duration::from_secs(1);

const INTERVAL: Duration = Duration::from_secs(5);

/// Five minutes of samples: no store is behind for that long and still alive.
const QUEUE_LEN: usize = 60;

/// The last look is waited for this long: a driver that hangs must not keep a run from ending.
const LAST_WAIT: Duration = Duration::from_millis(500);

/// Looks at the machine until it is stopped or dropped.
pub(crate) struct SystemMonitor {
    samples: Receiver<SystemSample>,
    n_dropped: Arc<AtomicU64>,
    /// Its end is the sign to stop.
    stop: Sender<()>,
}

impl SystemMonitor {
    pub fn start() -> Self {
        let (sender, samples) = sync_channel(QUEUE_LEN);
        let (stop, stopped) = channel();
        let n_dropped = Arc::default();
        let queue = Queue { sender, n_dropped: Arc::clone(&n_dropped) };
        if let Err(error) = thread::Builder::new().name("system".to_owned()).spawn(move || watch(&stopped, &queue)) {
            tracing::warn!(%error, "the machine is not looked at");
        }
        Self { samples, n_dropped, stop }
    }

    /// What has been seen since this was last asked.
    pub fn take(&self) -> Vec<SystemSample> {
        self.samples.try_iter().collect()
    }

    /// Has a last look, and says how many were dropped.
    pub fn stop(self) -> (Vec<SystemSample>, u64) {
        drop(self.stop);
        let deadline = Instant::now() + LAST_WAIT;
        let left = || deadline.saturating_duration_since(Instant::now());
        let last = std::iter::from_fn(|| self.samples.recv_timeout(left()).ok()).collect();
        (last, self.n_dropped.load(Ordering::Relaxed))
    }
}

/// The way to the store, and what did not fit into it.
struct Queue {
    sender: SyncSender<SystemSample>,
    n_dropped: Arc<AtomicU64>,
}

impl Queue {
    fn offer(&self, sample: SystemSample) {
        if let Err(TrySendError::Full(_)) = self.sender.try_send(sample) {
            self.n_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn watch(stopped: &Receiver<()>, queue: &Queue) {
    let mut probe = Probe::new();
    let mut wait = FIRST_AFTER;
    while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(wait) {
        queue.offer(probe.sample());
        wait = INTERVAL;
    }
    // Shares of time over less than this are noise.
    if probe.last.elapsed() >= MINIMUM_CPU_UPDATE_INTERVAL {
        queue.offer(probe.sample());
    }
}

/// Reads the machine's counters; shares of time are since it last did.
struct Probe {
    system: System,
    pid: Option<Pid>,
    nvml: Option<Nvml>,
    last: Instant,
    /// Of this process until then, all its threads together.
    cpu_time_ms: u64,
}

impl Probe {
    fn new() -> Self {
        let pid = sysinfo::get_current_pid().ok();
        let mut system = System::new();
        system.refresh_cpu_usage();
        let mut probe = Self { system, pid, nvml: Nvml::init().ok(), last: Instant::now(), cpu_time_ms: 0 };
        probe.process_values();
        probe
    }

    fn sample(&mut self) -> SystemSample {
        self.system.refresh_cpu_usage();
        self.system.refresh_memory();
        let mut values = vec![
            (CPU_PERCENT.to_owned(), f64::from(self.system.global_cpu_usage())),
            (MEMORY_USED_BYTES.to_owned(), self.system.used_memory() as f64),
            (MEMORY_AVAILABLE_BYTES.to_owned(), self.system.available_memory() as f64),
        ];
        values.extend(self.process_values());
        values.extend(self.nvml.iter().flat_map(gpu_values));
        SystemSample { at_ms: now_ms(), values }
    }

    /// This process' share of all cores since this was last asked, and its memory.
    ///
    /// The share is not sysinfo's, which is 0 until a process has used 10 ms before it is first looked at.
    fn process_values(&mut self) -> Vec<(String, f64)> {
        let what = ProcessRefreshKind::nothing().with_cpu().with_memory();
        self.system.refresh_processes_specifics(ProcessesToUpdate::Some(self.pid.as_slice()), false, what);
        let since = std::mem::replace(&mut self.last, Instant::now());
        let Some(process) = self.pid.and_then(|pid| self.system.process(pid)) else { return Vec::new() };
        let before_ms = std::mem::replace(&mut self.cpu_time_ms, process.accumulated_cpu_time());
        let used_s = self.cpu_time_ms.saturating_sub(before_ms) as f64 / 1e3;
        let had_s = (self.last - since).as_secs_f64() * self.system.cpus().len().max(1) as f64;
        vec![
            (PROCESS_CPU_PERCENT.to_owned(), 100.0 * used_s / had_s.max(f64::EPSILON)),
            (PROCESS_MEMORY_BYTES.to_owned(), process.memory() as f64),
        ]
    }
}

/// What the driver tells of its GPUs; one that does not answer is left out.
fn gpu_values(nvml: &Nvml) -> Vec<(String, f64)> {
    let mut values = Vec::new();
    for index in 0..nvml.device_count().unwrap_or(0) {
        let Ok(device) = nvml.device_by_index(index) else { continue };
        values.extend(device.utilization_rates().ok().map(|rates| (gpu_percent(index), f64::from(rates.gpu))));
        values.extend(device.memory_info().ok().map(|memory| (gpu_memory_bytes(index), memory.used as f64)));
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(sample: &SystemSample, name: &str) -> f64 {
        sample.values.iter().find(|(known, _)| known == name).unwrap().1
    }

    /// What a probe sees after this thread was busy for as long as shares of time take to mean something.
    fn busy_sample(probe: &mut Probe) -> SystemSample {
        let began = Instant::now();
        while began.elapsed() < MINIMUM_CPU_UPDATE_INTERVAL {
            std::hint::spin_loop();
        }
        probe.sample()
    }

    #[test]
    fn a_look_says_what_the_machine_and_this_process_use() {
        let mut probe = Probe::new();
        // Other processes may hold the cores for a while.
        let sample = (0..50).map(|_| busy_sample(&mut probe)).find(|sample| value(sample, PROCESS_CPU_PERCENT) > 0.0);
        let sample = sample.unwrap();
        for name in [CPU_PERCENT, PROCESS_CPU_PERCENT] {
            let percent = value(&sample, name);
            assert!(percent > 0.0 && percent < 110.0, "{name} is {percent}");
        }
        let [process, used, available] =
            [PROCESS_MEMORY_BYTES, MEMORY_USED_BYTES, MEMORY_AVAILABLE_BYTES].map(|name| value(&sample, name));
        assert!(process > 1e6 && process <= used + available, "{process} {used} {available}");
    }

    #[test]
    fn looks_that_find_the_queue_full_are_dropped_and_counted() {
        let (sender, samples) = sync_channel(2);
        let queue = Queue { sender, n_dropped: Arc::default() };
        for at_ms in 0..5 {
            queue.offer(SystemSample { at_ms, values: Vec::new() });
        }
        assert_eq!(queue.n_dropped.load(Ordering::Relaxed), 3);
        drop(queue);
        let kept: Vec<i64> = samples.iter().map(|sample| sample.at_ms).collect();
        assert_eq!(kept, [0, 1]);
    }

    #[test]
    fn a_monitor_stops_at_once_when_asked() {
        let began = Instant::now();
        let monitor = SystemMonitor::start();
        assert_eq!(monitor.take(), []);
        let (_, n_dropped) = monitor.stop();
        assert_eq!(n_dropped, 0);
        assert!(began.elapsed() < FIRST_AFTER);
    }
}
