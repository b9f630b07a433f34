//! Which way of working a product out is the fastest on a card: found by trying, and kept on disk.
//!
//! What suits one card leaves another idle, and products differ more among themselves than cards do. So while somebody looks
//! ([`look`]), the first product of every kind is worked out in a few ways; what was found holds from then on, also for later starts
//! of the program. Nobody looks within a decode, nor where a program plays the card: there a product that is not known goes by
//! [`Size::plan`].

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use burn::tensor::{DType, StreamId};
use etcetera::BaseStrategy;
use serde::{Deserialize, Serialize};

use super::product::{Patches, Size, Tile};
use super::surface::Surface;
use crate::files::write_renamed;

/// A product, as far as the choice depends on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Product {
    pub size: Size,
    pub patches: Option<Patches>,
    /// Whether neighbours in a matrix lie one below the other.
    pub a_down: bool,
    pub b_down: bool,
    /// Of both matrices, and of the result.
    pub dtypes: [DType; 2],
}

/// A way to work a product out: what is one cube's, and the parts that the depth is divided into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub tile: Tile,
    pub parts: usize,
}

/// What is known of all cards.
#[derive(Debug, Default)]
struct Plans {
    /// By the card's name, as the file has them.
    cards: HashMap<String, HashMap<Product, Plan>>,
    /// Found since the file was read or written.
    is_new: bool,
}

/// Goes up with every change of the kernels that the plans are of: what was found for others is found anew.
const KERNELS: u32 = 1;
/// Another way has to save so much of the time, or is not worth leaving what is known to do.
const GAIN: f64 = 0.05;
/// Starts of a kernel that are timed in one go.
const STARTS: u32 = 4;

#[derive(Default, Serialize, Deserialize)]
struct Stored {
    kernels: u32,
    cards: BTreeMap<String, Vec<(Product, Plan)>>,
}

impl Plans {
    /// As a file has them; none where there is no file, or none that these kernels can use.
    fn read(path: &Path) -> Self {
        let stored: Stored = std::fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        let known = |plans: Vec<(Product, Plan)>| plans.into_iter().filter(|(product, plan)| plan.is_for(product)).collect();
        let cards = stored.cards.into_iter().filter(|_| stored.kernels == KERNELS).map(|(card, plans)| (card, known(plans))).collect();
        Self { cards, is_new: false }
    }

    /// Adds them to what is in the file by now.
    fn write(&mut self, path: &Path) -> std::io::Result<()> {
        for (card, plans) in Self::read(path).cards {
            let known = self.cards.entry(card).or_default();
            for (product, plan) in plans {
                known.entry(product).or_insert(plan);
            }
        }
        let cards = self.cards.iter().map(|(card, plans)| (card.clone(), plans.clone().into_iter().collect())).collect();
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        write_renamed(path, true, |file| serde_json::to_writer(file, &Stored { kernels: KERNELS, cards }).map_err(std::io::Error::from))?;
        self.is_new = false;
        Ok(())
    }
}

impl Plan {
    /// Whether the kernels take it: a file may say anything.
    fn is_for(&self, product: &Product) -> bool {
        Tile::ALL.contains(&self.tile) && (1..=product.size.most_parts()).contains(&self.parts)
    }
}

/// In the user's folder for what can be made anew; `None` where the system names none.
static FILE: LazyLock<Option<PathBuf>> =
    LazyLock::new(|| Some(etcetera::choose_base_strategy().ok()?.cache_dir().join("pdae-studio").join("kernels.json")));

static PLANS: LazyLock<Mutex<Plans>> = LazyLock::new(|| Mutex::new(FILE.as_deref().map(Plans::read).unwrap_or_default()));

fn plans() -> MutexGuard<'static, Plans> {
    PLANS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Somebody who looks.
#[derive(Debug)]
struct Look {
    /// Where their passes are told to a card: that is another thread's business.
    stream: StreamId,
    /// No search begins when so much time has gone into others. It is not the time of day: else a slow device, which takes that long to get
    /// to a product that is not known, would never come to one.
    at_most: Duration,
    spent: Duration,
    /// Whether there was a product left for another time.
    left_some: bool,
}

static LOOKS: Mutex<Vec<Look>> = Mutex::new(Vec::new());

/// Plans that were found for each stream since the program started: what was recorded there before is out of date when there are more.
static FOUND: LazyLock<Mutex<HashMap<StreamId, u64>>> = LazyLock::new(Mutex::default);

fn looks() -> MutexGuard<'static, Vec<Look>> {
    LOOKS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn found() -> MutexGuard<'static, HashMap<StreamId, u64>> {
    FOUND.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As long as it lives, products that are not known yet are worked out in several ways.
#[must_use]
#[derive(Debug)]
pub struct Looking(StreamId);

/// Finds the fastest way for all products that this thread has a card work out while what it returns lives, and waits for the card at
/// each. After so long no more are begun, but one is always. What was found is written down at the end; where it cannot be, it is found
/// again next time.
pub fn look(at_most: Duration) -> Looking {
    let stream = StreamId::current();
    looks().push(Look { stream, at_most, spent: Duration::ZERO, left_some: false });
    Looking(stream)
}

/// Whether the passes of this stream are looked at.
pub fn is_looked_at(stream: StreamId) -> bool {
    looks().iter().any(|look| look.stream == stream)
}

/// Goes up with every plan that is found for this stream.
pub fn version(stream: StreamId) -> u64 {
    found().get(&stream).copied().unwrap_or_default()
}

impl Looking {
    /// Whether all was found that has been asked for until now.
    pub fn found_all(&self) -> bool {
        !looks().iter().any(|look| look.stream == self.0 && look.left_some)
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        let mut looks = looks();
        if let Some(place) = looks.iter().position(|look| look.stream == self.0) {
            looks.remove(place);
        }
        drop(looks);
        let mut plans = plans();
        if let (true, Some(path)) = (plans.is_new, &*FILE)
            && let Err(e) = plans.write(path)
        {
            log::warn!("{}: the fastest kernels could not be noted: {e}", path.display());
        }
    }
}

/// What a search finds, if there may be one now. Where there was time for no more, that is remembered.
fn searched<T>(search: impl FnOnce() -> T) -> Option<T> {
    let stream = StreamId::current();
    let may = looks().iter_mut().find(|look| look.stream == stream).is_some_and(|look| {
        let may = look.spent <= look.at_most;
        look.left_some |= !may;
        may
    });
    if !may {
        return None;
    }
    let begun = Instant::now();
    let found = search();
    if let Some(look) = looks().iter_mut().find(|look| look.stream == stream) {
        look.spent += begun.elapsed();
    }
    Some(found)
}

impl Surface {
    /// How to work this product out here. `work_out` does so a number of times.
    pub fn plan(&self, product: Product, work_out: impl Fn(&Self, Plan, u32) + Sync) -> Plan {
        let card = &self.client.properties().identity.name;
        let known = plans().cards.get(card).and_then(|plans| plans.get(&product).copied());
        if let Some(plan) = known {
            return plan;
        }
        if self.is_software() {
            return product.size.plan();
        }
        let Some(fastest) = searched(|| self.fastest(product.size, work_out)) else { return product.size.plan() };
        // A card that cannot be timed need not be asked again either.
        let plan = fastest.unwrap_or_else(|| product.size.plan());
        log::debug!("{product:?} on {card}: {plan:?}");
        let mut plans = plans();
        plans.cards.entry(card.clone()).or_default().insert(product, plan);
        plans.is_new = true;
        *found().entry(StreamId::current()).or_default() += 1;
        plan
    }

    /// `None` where the card cannot be timed.
    pub(super) fn fastest(&self, size: Size, work_out: impl Fn(&Self, Plan, u32) + Sync) -> Option<Plan> {
        fastest(size.plans(), |plan| self.time(|on, starts| work_out(on, plan, starts)))
    }

    /// How long the card takes.
    fn time(&self, work: impl Fn(&Self, u32) + Sync) -> Option<Duration> {
        let timed = |starts| {
            let (_, time) = self.client.profile(|| work(self, starts), "product").ok()?;
            burn_cubecl::cubecl::future::block_on(time.resolve()).map(|ticks| ticks.duration())
        };
        // The first is compiled.
        timed(1)?;
        timed(STARTS)
    }
}

/// The plan that takes the least time, the first one unless another is clearly faster. `None` where they cannot be timed.
fn fastest(plans: Vec<Plan>, time: impl Fn(Plan) -> Option<Duration>) -> Option<Plan> {
    let mut times = plans.into_iter().map(|plan| (plan, time(plan)));
    let (usual, of_usual) = times.next()?;
    let of_usual = of_usual?;
    let best = times.filter_map(|(plan, time)| Some((plan, time?))).min_by_key(|(_, time)| *time);
    Some(match best {
        Some((plan, time)) if time < of_usual.mul_f64(1.0 - GAIN) => plan,
        _ => usual,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(rows: usize) -> Product {
        let size = Size { batch: 1, rows, depth: 576, columns: 64 };
        let patches = Some(Patches { side: 32, channels: 64, kernel: 3, stride: 1 });
        Product { size, patches, a_down: false, b_down: true, dtypes: [DType::F32, DType::F16] }
    }

    #[test]
    fn the_usual_plan_stays_unless_another_is_clearly_faster() {
        let plans = product(1024).size.plans();
        let other = plans[2];
        assert!(plans[1..].iter().all(|plan| *plan != plans[0]), "{plans:?}");
        let with = |time: u64| fastest(plans.clone(), |plan| Some(Duration::from_micros(if plan == other { time } else { 100 })));
        assert_eq!(with(97), Some(plans[0]));
        assert_eq!(with(90), Some(other));
        assert_eq!(fastest(plans.clone(), |plan| (plan != plans[0]).then_some(Duration::ZERO)), None, "there is nothing to compare with");
        assert_eq!(fastest(plans.clone(), |plan| (plan == plans[0]).then_some(Duration::ZERO)), Some(plans[0]));
    }

    #[test]
    fn only_who_looks_searches_and_no_longer_than_was_said() {
        let may_search = || searched(|| std::thread::sleep(Duration::from_millis(2))).is_some();
        assert!(!may_search() && !is_looked_at(StreamId::current()));
        let looking = look(Duration::MAX);
        assert!(may_search() && may_search() && looking.found_all());
        assert!(std::thread::spawn(|| searched(|| ()).is_none()).join().unwrap(), "another thread does not look");
        drop(looking);
        assert!(!may_search());
        // However short the time is, there is one, or there would never be all.
        let looking = look(Duration::from_millis(1));
        std::thread::sleep(Duration::from_millis(2));
        assert!(is_looked_at(StreamId::current()) && may_search() && looking.found_all());
        assert!(!may_search() && !looking.found_all());
    }

    #[test]
    fn plans_are_kept_with_those_of_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new").join("kernels.json");
        let plans = |card: &str, rows: usize, plan: usize| Plans {
            cards: HashMap::from([(card.into(), HashMap::from([(product(rows), product(rows).size.plans()[plan])]))]),
            is_new: true,
        };
        let mut first = plans("One", 64, 1);
        first.write(&path).unwrap();
        assert!(!first.is_new);
        plans("Two", 64, 2).write(&path).unwrap();
        plans("One", 256, 0).write(&path).unwrap();
        let read = Plans::read(&path);
        assert_eq!(read.cards["One"][&product(64)], product(64).size.plans()[1]);
        assert_eq!(read.cards["One"][&product(256)], product(256).size.plans()[0]);
        assert_eq!(read.cards["Two"][&product(64)], product(64).size.plans()[2]);
    }

    #[test]
    fn a_file_that_makes_no_sense_is_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kernels.json");
        let cards = |plan: Plan| BTreeMap::from([("One".to_owned(), vec![(product(64), plan)])]);
        let usual = product(64).size.plan();
        let cases = [
            (KERNELS, usual, 1),
            (KERNELS + 1, usual, 0),
            (KERNELS, Plan { parts: 0, ..usual }, 0),
            (KERNELS, Plan { parts: 100, ..usual }, 0),
        ];
        for (kernels, plan, want) in cases {
            std::fs::write(&path, serde_json::to_vec(&Stored { kernels, cards: cards(plan) }).unwrap()).unwrap();
            assert_eq!(Plans::read(&path).cards.values().map(HashMap::len).sum::<usize>(), want, "{kernels}, {plan:?}");
        }
        let odd =
            serde_json::to_string(&Stored { kernels: KERNELS, cards: cards(usual) }).unwrap().replace("\"depth\":32", "\"depth\":1000000");
        for text in ["", "[1, 2", &odd] {
            std::fs::write(&path, text).unwrap();
            assert!(Plans::read(&path).cards.values().all(HashMap::is_empty), "{text}");
        }
        assert!(Plans::read(&folder.path().join("not there")).cards.is_empty());
    }
}
