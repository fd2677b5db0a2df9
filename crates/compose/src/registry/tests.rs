use super::*;
use crate::manifest::Cardinality;
use indexmap::IndexMap;
use proptest::prelude::*;

fn offer(component: &str, interface: &str, version: &str, rank: i32) -> Offer {
    Offer {
        component: component.parse().unwrap(),
        export: interface.parse().unwrap(),
        interface: interface.parse().unwrap(),
        version: version.parse().unwrap(),
        properties: IndexMap::new(),
        rank,
    }
}

fn need(component: &str, interface: &str, version: &str, cardinality: Cardinality) -> Need {
    Need {
        component: component.parse().unwrap(),
        import: interface.parse().unwrap(),
        interface: interface.parse().unwrap(),
        version: version.parse().unwrap(),
        filter: IndexMap::new(),
        cardinality,
        from: None,
    }
}

/// Changes in short words.
fn words(changes: &[Change]) -> Vec<String> {
    let word = |change: &Change| match change {
        Change::Arrived(id) => format!("+{}", id.component),
        Change::Leaving(id) => format!("~{}", id.component),
        Change::Gone(id) => format!("-{}", id.component),
        Change::Bound(import, export) => format!("{}={}", import.component, export.component),
        Change::Unbound(import, export) => format!("{}/{}", import.component, export.component),
        Change::Satisfied(component) => format!("{component}!"),
        Change::Unsatisfied(component) => format!("{component}?"),
    };
    changes.iter().map(word).collect()
}

#[test]
fn exports_come_and_go() {
    let mut registry = Registry::new();
    let check = |changes: Vec<Change>, expect: &[&str]| assert_eq!(words(&changes), expect);
    let id = |component: &str| ExportId::from(&offer(component, "s", "1.0.0", 0));
    check(
        registry.want(need("a", "s", "1", Cardinality::One)),
        &["a?"],
    );
    check(registry.want(need("z", "s", "*", Cardinality::Any)), &[]);
    check(
        registry.register(offer("one", "s", "1.0.0", 0)),
        &["+one", "a=one", "a!", "z=one"],
    );
    // An equal one does not win over an older one; all are taken by who takes several.
    check(
        registry.register(offer("two", "s", "1.0.0", 0)),
        &["+two", "z=two"],
    );
    // A better one is bound before the other is given up.
    check(
        registry.register(offer("six", "s", "1.5.0", 5)),
        &["+six", "a=six", "a/one", "z=six"],
    );
    // One that does not fit is none.
    check(
        registry.register(offer("ten", "s", "2.0.0", 9)),
        &["+ten", "z=ten"],
    );
    // What goes says so before, and its importers move first.
    check(
        registry.leave(&id("six")),
        &["~six", "a=one", "a/six", "z/six"],
    );
    check(registry.leave(&id("six")), &[]);
    check(registry.remove(&id("six")), &["-six"]);
    check(registry.remove(&id("two")), &["~two", "z/two", "-two"]);
    check(
        registry.leave(&id("one")),
        &["~one", "a?", "a/one", "z/one"],
    );
    check(
        registry.forget(&ImportId::from(&need("a", "s", "1", Cardinality::One))),
        &["a!"],
    );
    assert_eq!(registry.exports().count(), 2);
}

#[test]
fn a_component_wants_several_things() {
    let mut registry = Registry::new();
    let a: Name = "a".parse().unwrap();
    registry.want(need("a", "s", "*", Cardinality::One));
    registry.want(need("a", "t", "*", Cardinality::Several));
    assert_eq!(
        words(&registry.register(offer("b", "s", "1.0.0", 0))),
        ["+b", "a=b"]
    );
    assert_eq!(
        registry.lacking(&a).map(Key::as_str).collect::<Vec<_>>(),
        ["t"]
    );
    assert_eq!(
        words(&registry.register(offer("c", "t", "1.0.0", 0))),
        ["+c", "a=c", "a!"]
    );
    assert!(registry.is_satisfied(&a));
    // The same export with another version: out and in again.
    assert_eq!(
        words(&registry.register(offer("c", "t", "2.0.0", 0))),
        ["~c", "a?", "a/c", "-c", "+c", "a=c", "a!"]
    );
}

#[derive(Debug, Clone)]
enum Step {
    Register(Offer),
    Leave(ExportId),
    Remove(ExportId),
    Want(Need),
    Forget(ImportId),
}

fn step() -> impl Strategy<Value = Step> {
    let component = || proptest::sample::select(vec!["a", "b", "c", "d", "e"]);
    let interface = || proptest::sample::select(vec!["s", "t"]);
    let version = proptest::sample::select(vec!["1.0.0", "1.2.0", "2.0.0"]);
    let range = proptest::sample::select(vec!["*", "1", ">=1.2"]);
    let cardinality = proptest::sample::select(vec![
        Cardinality::Optional,
        Cardinality::One,
        Cardinality::Any,
        Cardinality::Several,
    ]);
    let offers =
        (component(), interface(), version, -1_i32..2).prop_map(|(c, i, v, r)| offer(c, i, v, r));
    let needs = (
        component(),
        interface(),
        range,
        cardinality,
        proptest::option::of(component()),
    )
        .prop_map(|(c, i, r, n, from)| {
            let from = from.map(|from| from.parse().unwrap());
            Need {
                from,
                ..need(c, i, r, n)
            }
        });
    prop_oneof![
        3 => offers.clone().prop_map(Step::Register),
        1 => offers.clone().prop_map(|offer| Step::Leave((&offer).into())),
        1 => offers.prop_map(|offer| Step::Remove((&offer).into())),
        3 => needs.clone().prop_map(Step::Want),
        1 => needs.prop_map(|need| Step::Forget((&need).into())),
    ]
}

/// What can be known from changes alone.
#[derive(Default)]
struct Heard {
    present: BTreeSet<ExportId>,
    leaving: BTreeSet<ExportId>,
    bound: BTreeSet<(ImportId, ExportId)>,
    unsatisfied: BTreeSet<Name>,
}

impl Heard {
    fn hear(&mut self, change: &Change) {
        match change.clone() {
            Change::Arrived(id) => assert!(self.present.insert(id)),
            Change::Leaving(id) => assert!(self.present.contains(&id) && self.leaving.insert(id)),
            Change::Gone(id) => {
                assert!(self.leaving.remove(&id), "{id} goes without a word before");
                assert!(self.present.remove(&id));
                assert!(
                    self.bound.iter().all(|(_, export)| *export != id),
                    "{id} goes while it is bound"
                );
            }
            Change::Bound(import, export) => {
                assert!(self.present.contains(&export) && !self.leaving.contains(&export));
                assert!(self.bound.insert((import, export)));
            }
            Change::Unbound(import, export) => assert!(self.bound.remove(&(import, export))),
            Change::Satisfied(component) => assert!(self.unsatisfied.remove(&component)),
            Change::Unsatisfied(component) => assert!(self.unsatisfied.insert(component)),
        }
    }
}

/// The best exports for an import, found the slow way.
fn best(need: &Need, offers: &[(Offer, u64)]) -> Vec<ExportId> {
    let mut fitting: Vec<&(Offer, u64)> = offers
        .iter()
        .filter(|(offer, _)| offer.interface == need.interface && need.takes(offer).is_ok())
        .collect();
    fitting.sort_by_key(|(offer, age)| (-offer.rank, *age));
    let most = if need.cardinality.takes_several() {
        usize::MAX
    } else {
        1
    };
    fitting
        .into_iter()
        .take(most)
        .map(|(offer, _)| offer.into())
        .collect()
}

proptest! {
    /// Against a plain reference: every import has the best there is, who lacks something is known, and whoever only hears the changes
    /// knows the same.
    #[test]
    fn any_order_of_steps(steps in proptest::collection::vec(step(), 0..40)) {
        let mut registry = Registry::new();
        let mut heard = Heard::default();
        let mut offers: Vec<(Offer, u64)> = Vec::new();
        let mut needs: BTreeMap<ImportId, Need> = BTreeMap::new();
        for (age, step) in (0..).zip(steps) {
            let changes = match step {
                Step::Register(offer) => {
                    let id = ExportId::from(&offer);
                    offers.retain(|(other, _)| ExportId::from(other) != id);
                    offers.push((offer.clone(), age));
                    registry.register(offer)
                }
                Step::Leave(id) => {
                    offers.retain(|(other, _)| ExportId::from(other) != id);
                    registry.leave(&id)
                }
                Step::Remove(id) => {
                    offers.retain(|(other, _)| ExportId::from(other) != id);
                    registry.remove(&id)
                }
                Step::Want(need) => {
                    needs.insert((&need).into(), need.clone());
                    registry.want(need)
                }
                Step::Forget(id) => {
                    needs.remove(&id);
                    registry.forget(&id)
                }
            };
            changes.iter().for_each(|change| heard.hear(change));
            let mut bound = BTreeSet::new();
            let mut unsatisfied = BTreeSet::new();
            for (id, need) in &needs {
                let best = best(need, &offers);
                prop_assert_eq!(registry.bound(id), &best[..]);
                if best.is_empty() && need.cardinality.is_mandatory() {
                    unsatisfied.insert(id.component.clone());
                }
                bound.extend(best.into_iter().map(|export| (id.clone(), export)));
            }
            prop_assert_eq!(&heard.bound, &bound);
            prop_assert_eq!(&heard.unsatisfied, &unsatisfied);
            for name in ["a", "b", "c", "d", "e"] {
                let name: Name = name.parse().unwrap();
                prop_assert_eq!(registry.is_satisfied(&name), !unsatisfied.contains(&name));
            }
        }
    }
}
