//! Packs and index against plain files: `cargo bench --bench objects [DIR] [ROUNDS]`. Prints a table; ratios are
//! medians of pairs in one run.

#![allow(clippy::too_many_lines)] // a bench is read from its first measurement to its last

use cairn::internals::disk::{Access, Disk};
use cairn::internals::layout::{DIRECTORIES, Layout};
use cairn::internals::manifest::Builder;
use cairn::internals::objects::{Objects, StoredFile};
use cairn::manifest::Entry;
use cairn::types::{Digest, Location};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

const FILES: usize = 100_000;
const SIZE: usize = 4096;
const LANES: usize = 2;

struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.chunks_exact_mut(8).for_each(|c| c.copy_from_slice(&self.next().to_le_bytes()));
    }
}

fn store(dir: &Path) -> Layout {
    let _ = std::fs::remove_dir_all(dir);
    for name in DIRECTORIES {
        std::fs::create_dir_all(dir.join(name)).unwrap();
    }
    std::fs::create_dir(dir.join("work/t")).unwrap();
    Layout::new(dir)
}

fn open(layout: &Layout) -> Arc<Objects> {
    Arc::new(Objects::open(layout.clone(), Arc::new(Disk::of(layout.root(), Access::Umask).unwrap())).unwrap())
}

fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let start = Instant::now();
    let out = work();
    (start.elapsed().as_secs_f64(), out)
}

/// Processor time of this process: on a busy machine steadier than the clock.
fn cpu_seconds() -> f64 {
    // SAFETY: getrusage fills the zeroed struct.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// Hashes and stores with two lanes, 256 files at a time; durable.
fn put(layout: &Layout, contents: &[u8]) -> Vec<(Digest, Location)> {
    let writer = open(layout).writer(&layout.work().join("t")).unwrap();
    let next = AtomicUsize::new(0);
    let mut out: Vec<(usize, Vec<(Digest, Location)>)> = std::thread::scope(|s| {
        let threads: Vec<_> = (0..LANES)
            .map(|_| {
                s.spawn(|| {
                    let mut lane = writer.thread_writer();
                    let mut done = Vec::new();
                    loop {
                        let from = next.fetch_add(256, Ordering::Relaxed);
                        let piece =
                            &contents[(from * SIZE).min(contents.len())..((from + 256) * SIZE).min(contents.len())];
                        if piece.is_empty() {
                            return done;
                        }
                        let one = |c: &[u8]| {
                            let digest = Digest::of(c);
                            (digest, lane.put_small(digest, c).unwrap().place)
                        };
                        done.push((from, piece.chunks(SIZE).map(one).collect()));
                    }
                })
            })
            .collect();
        threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
    });
    out.sort_by_key(|p| p.0);
    let out: Vec<_> = out.into_iter().flat_map(|p| p.1).collect();
    let mut nodes = writer.node_writer().unwrap();
    let mut builder = Builder::new(&mut nodes);
    for (i, (digest, place)) in out.iter().enumerate() {
        builder
            .entry(
                format!("{i:08}").as_bytes(),
                Entry::File { digest: *digest, size: SIZE as u64, exec: false, place: Some(*place) },
            )
            .unwrap();
    }
    builder.finish().unwrap();
    drop(nodes);
    writer.seal(&[], &[]).unwrap();
    File::open(layout.packs()).unwrap().sync_all().unwrap();
    out
}

fn hash_all(contents: &[u8]) {
    std::thread::scope(|s| {
        for half in contents.chunks(contents.len().div_ceil(2)) {
            s.spawn(move || {
                half.chunks(SIZE).for_each(|c| {
                    std::hint::black_box(Digest::of(c));
                })
            });
        }
    });
}

fn in_threads<T: Sync>(all: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(one);
                }
            });
        }
    });
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let base = PathBuf::from(
        args.first().cloned().unwrap_or_else(|| std::env::temp_dir().join("cairn-bench").display().to_string()),
    );
    let rounds: usize = args.get(1).and_then(|n| n.parse().ok()).unwrap_or(5);
    std::fs::create_dir_all(&base).unwrap();
    let dir = base.join("store");
    let mut contents = vec![0; FILES * SIZE];
    Dice(88_172_645_463_325_252).fill(&mut contents);
    println!(
        "{FILES} × {SIZE} bytes, {LANES} lanes, {} ({:?}), median of {rounds} rounds",
        base.display(),
        Disk::of(&base, Access::Umask).unwrap().kind()
    );

    let (mut puts, mut plains, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
    let mut layout = store(&dir);
    let mut places = Vec::new();
    for _ in 0..rounds {
        layout = store(&dir);
        let (t, p) = timed(|| put(&layout, &contents));
        places = p;
        puts.push(t);
        let plain = base.join("plain");
        plains.push(
            timed(|| {
                let mut file = File::create(&plain).unwrap();
                contents.chunks(1 << 20).for_each(|c| file.write_all(c).unwrap());
                file.sync_all().unwrap();
            })
            .0,
        );
        std::fs::remove_file(plain).unwrap();
        hashes.push(timed(|| hash_all(&contents)).0);
    }
    let ratios = |a: &[f64], b: &[f64]| median(a.iter().zip(b).map(|(a, b)| a / b).collect());
    println!(
        "put, durable                      {:6.2} s   {:5.2} × one file written and fsynced ({:.2} s)",
        median(puts.clone()),
        ratios(&puts, &plains),
        median(plains)
    );
    println!(
        "                                             {:5.2} × hashing alone, two threads ({:.2} s)",
        ratios(&puts, &hashes),
        median(hashes)
    );
    println!(
        "packs {}, runs {}",
        std::fs::read_dir(layout.packs()).unwrap().count(),
        std::fs::read_dir(layout.index()).unwrap().count()
    );

    let objects = open(&layout);
    let (t, writer) = timed(|| objects.writer(&layout.work().join("t")).unwrap());
    println!("a writer on it                    {:6.1} ms", t * 1e3);
    let mut lane = writer.thread_writer();
    let cpu = cpu_seconds();
    let (t, found) = timed(|| {
        let mut found = 0;
        for i in 0..10 * FILES {
            let mut digest = places[i * 7919 % FILES].0;
            if i % 2 == 1 {
                digest.0[31] ^= 1; // half of them absent, in the same bucket
            }
            found += usize::from(lane.find(&digest, SIZE as u64).unwrap().is_some());
        }
        found
    });
    assert_eq!(found, 5 * FILES);
    println!(
        "find, 10^6, half of them there    {t:6.2} s   {:.0} ns each; processor {:.2} s",
        t * 1e3,
        cpu_seconds() - cpu
    );

    // Places of this process: by the writer that looked, not the one that wrote.
    let hints: Vec<Location> =
        places.iter().map(|(digest, _)| lane.find(digest, SIZE as u64).unwrap().flatten().unwrap()).collect();
    drop(lane);
    drop(writer);
    let mut order: Vec<usize> = (0..FILES).collect();
    let read = |order: &[usize], hint: bool| {
        let mut buffer = Vec::new();
        for i in order {
            objects.read_small_into(&places[*i].0, SIZE as u64, hint.then_some(hints[*i]), &mut buffer).unwrap();
        }
    };
    let plain: Vec<f64> = (0..3)
        .map(|_| {
            timed(|| {
                contents.chunks(SIZE).for_each(|c| {
                    std::hint::black_box(Digest::of(c));
                })
            })
            .0
        })
        .collect();
    let hash = median(plain);
    let in_order = median((0..rounds).map(|_| timed(|| read(&order, true)).0).collect());
    let mut dice = Dice(7);
    (1..FILES).rev().for_each(|i| order.swap(i, dice.next() as usize % (i + 1)));
    let random = median((0..rounds).map(|_| timed(|| read(&order, true)).0).collect());
    let by_index = median((0..rounds).map(|_| timed(|| read(&order, false)).0).collect());
    println!(
        "read by place, in order           {in_order:6.2} s   {:5.2} × hashing alone, one thread ({hash:.2} s)",
        in_order / hash
    );
    println!("read by place, random             {random:6.2} s   {:5.2} ×", random / hash);
    println!("read by index, random             {by_index:6.2} s   {:5.2} ×", by_index / hash);

    let packs: Vec<StoredFile> = objects.stored_packs().unwrap();
    let (mut checks, mut plains) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        checks.push(
            timed(|| {
                in_threads(&packs, |p| {
                    let mut damage = Vec::new();
                    objects.check_pack(p, &mut damage).unwrap();
                    assert!(damage.is_empty());
                });
            })
            .0,
        );
        plains.push(
            timed(|| {
                in_threads(&packs, |p| {
                    std::hint::black_box(hash_file(&p.path));
                })
            })
            .0,
        );
    }
    println!(
        "check all packs, two threads      {:6.2} s   {:5.2} × reading and hashing the files ({:.2} s)",
        median(checks.clone()),
        ratios(&checks, &plains),
        median(plains)
    );
    println!(
        "check the index                   {:6.2} s",
        timed(|| assert!(objects.check_index().unwrap().is_empty())).0
    );

    let (mut ours, mut theirs, mut cpus) = (Vec::new(), Vec::new(), Vec::new());
    let big = base.join("big");
    File::create(&big).unwrap().write_all(&contents).unwrap();
    for round in 0..rounds {
        // Another content each time: its first bytes differ.
        use std::os::unix::fs::FileExt;
        File::options().write(true).open(&big).unwrap().write_all_at(&[round as u8 + 1], 0).unwrap();
        let writer = objects.writer(&layout.work().join("t")).unwrap();
        let cpu = cpu_seconds();
        let (t, put) = timed(|| {
            let put = writer.thread_writer().put_large(&File::open(&big).unwrap(), &big, &mut |_| Ok(())).unwrap();
            writer.seal(&[], &[]).unwrap();
            File::open(layout.objects()).unwrap().sync_all().unwrap();
            put
        });
        ours.push(t);
        cpus.push(cpu_seconds() - cpu);
        assert!(put.new);
        std::fs::remove_file(layout.object(&put.digest)).unwrap(); // as the copy: memory that was used before is faster
        let copy = base.join("copy");
        theirs.push(
            timed(|| {
                std::fs::copy(&big, &copy).unwrap();
                File::open(&copy).unwrap().sync_all().unwrap();
            })
            .0,
        );
        std::fs::remove_file(copy).unwrap();
    }
    println!(
        "put one large file of {} MiB      {:6.2} s   {:5.2} × copy and fsync ({:.2} s); processor {:.2} s",
        contents.len() >> 20,
        median(ours.clone()),
        ratios(&ours, &theirs),
        median(theirs),
        median(cpus)
    );
    std::fs::remove_dir_all(&base).unwrap();
}

fn hash_file(path: &Path) -> Digest {
    use std::io::Read;
    let (mut file, mut hasher, mut buffer) = (File::open(path).unwrap(), cairn::types::Hasher::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => return hasher.finish(),
            n => hasher.update(&buffer[..n]),
        }
    }
}
