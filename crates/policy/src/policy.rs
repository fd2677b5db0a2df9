//! A graph and the rules on it, and the decisions that follow.

use crate::assertion::Extent;
use crate::crossing::{Crossing, To};
use crate::graph::Flow;
use crate::parse::listed;
use crate::path::{Ways, steps};
use crate::{
    Capability, Component, Decision, Destination, End, Graph, GraphError, Operation, Reason,
    ReasonKind, Request, Rules,
};

/// How many alternatives a refusal names before it counts the rest.
const ALTERNATIVES_MAX: usize = 8;

/// What is granted and what the rules make of it. A value: it changes only as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub(crate) graph: Graph,
    pub(crate) rules: Rules,
    /// What `allow` grants, sorted, each with the number of its rule.
    pub(crate) allowed: Vec<(Capability, usize)>,
    /// For each assertion.
    pub(crate) ways: Vec<Ways>,
    /// Why there is no policy; then nothing is permitted.
    pub(crate) unreadable: Option<String>,
}

/// Where a component may connect to outside, for the mechanism that enforces it without asking.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutboundRules {
    /// What is permitted, unless `deny` has it.
    pub allow: Vec<Destination>,
    /// What is refused.
    pub deny: Vec<Destination>,
}

impl Policy {
    /// The policy of a graph and the rules on it. Contradictions are left to [`Policy::check`]: what breaks an assertion is refused.
    pub fn new(mut graph: Graph, rules: Rules) -> Result<Self, GraphError> {
        graph.settle()?;
        let grants = rules.allow.iter().enumerate().flat_map(|(index, rule)| {
            let granted = rule.grants(&graph).into_iter();
            granted.map(move |capability| (capability, index))
        });
        let mut allowed: Vec<(Capability, usize)> = grants.collect();
        allowed.sort();
        allowed.dedup_by(|one, before| one.0 == before.0);
        let ways = if rules.assert.iter().any(crate::Assertion::is_through) {
            let list: Vec<Capability> = allowed.iter().map(|(one, _)| one.clone()).collect();
            let steps = steps(&graph, &list);
            let ways = rules.assert.iter().map(|one| one.ways(&graph, &steps));
            ways.collect()
        } else {
            vec![Ways::default(); rules.assert.len()]
        };
        Ok(Self {
            graph,
            rules,
            allowed,
            ways,
            unreadable: None,
        })
    }

    /// The policy that refuses everything, saying why.
    pub fn deny_all(because: &str) -> Self {
        Self {
            graph: Graph::default(),
            rules: Rules::default(),
            allowed: Vec::new(),
            ways: Vec::new(),
            unreadable: Some(because.to_owned()),
        }
    }

    /// What is granted.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Whether the request is permitted, and why. What nothing grants is refused.
    pub fn decide(&self, request: &Request) -> Decision {
        if let Some(because) = &self.unreadable {
            let text = format!("nothing is permitted: {because}");
            return Decision::refused(vec![Reason::new(ReasonKind::Unreadable, text)]);
        }
        let unknown = self.unknown(request);
        if !unknown.is_empty() {
            return Decision::refused(unknown);
        }
        if let Request::Control {
            component,
            operation,
            target,
        } = request
        {
            return self.decide_control(component, *operation, target);
        }
        match Crossing::of_request(request) {
            Some(crossing) => self.judge(&crossing, self.grant(request, &crossing), Extent::Any),
            // Control is the only request that crosses nothing.
            None => Decision::refused(Vec::new()),
        }
    }

    /// Whether what was granted is permitted, at least in part.
    pub(crate) fn permits(&self, capability: &Capability) -> bool {
        if self.unreadable.is_some() || !self.has(capability) {
            return false;
        }
        match (Crossing::of_capability(capability), capability) {
            (None, Capability::Control(name)) => self.control(name).is_ok(),
            (None, _) => false,
            (Some(crossing), _) => {
                let granted = Ok(Reason::new(ReasonKind::Granted, String::new()));
                self.judge(&crossing, granted, Extent::Whole).allowed
            }
        }
    }

    /// Where the component may connect to outside.
    pub fn outbound(&self, component: &str) -> OutboundRules {
        let granted = self.outbound_capabilities(component);
        let allow: Vec<Destination> = granted
            .into_iter()
            .filter(|capability| self.permits(capability))
            .filter_map(|capability| match capability {
                Capability::Outbound(outbound) => Some(outbound.destination),
                _ => None,
            })
            .collect();
        // A child's owner may be refused more than the child.
        let mut deny = Vec::new();
        let mut at = self.graph.find(component);
        while let Some(one) = at {
            deny.extend(self.never_outside(&one.name));
            at = one.owner.as_ref().and_then(|owner| self.graph.find(owner));
        }
        deny.sort();
        deny.dedup();
        OutboundRules { allow, deny }
    }

    fn never_outside(&self, component: &str) -> Vec<Destination> {
        let denied = self.rules.deny.iter();
        let denied = denied.filter_map(|rule| rule.outside(component).cloned());
        let asserted = self.rules.assert.iter();
        let asserted = asserted.flat_map(|assertion| assertion.never_outside(component));
        denied.chain(asserted).collect()
    }

    fn unknown(&self, request: &Request) -> Vec<Reason> {
        let mut names: Vec<&str> = Vec::new();
        match request {
            Request::Connect { from: name, to, .. }
            | Request::Accept {
                component: name,
                from: to,
                ..
            } => {
                names.push(name);
                if let End::Component(other) = to {
                    names.push(other);
                }
            }
            Request::Publish { component, .. } | Request::Outbound { component, .. } => {
                names.push(component);
            }
            Request::Control {
                component, target, ..
            } => names.extend([component.as_str(), target.as_str()]),
        }
        names.retain(|name| self.graph.find(name).is_none());
        names
            .iter()
            .map(|name| {
                let text = format!("there is no component `{}`", name.escape_debug());
                Reason::new(ReasonKind::Unknown, text)
            })
            .collect()
    }

    /// Puts together what grants a crossing and what speaks against it.
    fn judge(
        &self,
        crossing: &Crossing<'_>,
        grant: Result<Reason, Reason>,
        extent: Extent,
    ) -> Decision {
        let mut against = self.against(crossing, extent);
        match grant {
            Ok(reason) if against.is_empty() => Decision::allowed(reason),
            Ok(_) => Decision::refused(against),
            Err(reason) => {
                against.insert(0, reason);
                Decision::refused(against)
            }
        }
    }

    fn against(&self, crossing: &Crossing<'_>, extent: Extent) -> Vec<Reason> {
        let denied = self.rules.deny.iter();
        let denied = denied.filter(|rule| rule.matches(crossing, extent));
        let denied = denied.map(|rule| {
            let text = format!("the rule `deny {rule}` refuses {crossing}");
            Reason::by(ReasonKind::Denied, rule, text)
        });
        let asserted = self.rules.assert.iter().zip(&self.ways);
        let asserted = asserted.filter(|(one, ways)| one.forbids(crossing, ways, extent));
        let asserted = asserted.map(|(assertion, _)| {
            let text = format!("`{assertion}` would not hold with {crossing}");
            Reason::by(ReasonKind::Asserted, assertion, text)
        });
        let mut against: Vec<Reason> = denied.chain(asserted).collect();
        against.extend(self.beyond_owner(crossing, extent));
        against
    }

    /// What a component has of its owner is never more than the owner has.
    fn beyond_owner(&self, crossing: &Crossing<'_>, extent: Extent) -> Option<Reason> {
        let owner_of = |name: &str| self.graph.find(name).and_then(|c| c.owner.as_deref());
        if let To::Component { name, .. } = &crossing.to
            && let Some(owner) = owner_of(name)
            && !crossing
                .from
                .is_some_and(|from| self.graph.belongs(from, owner))
        {
            let from = crossing.from.unwrap_or("the outside");
            let text =
                format!("{name} belongs to {owner}, and {from} does not: it reaches {owner} only");
            return Some(Reason::new(ReasonKind::Owner, text));
        }
        let owner = owner_of(crossing.from?)?;
        if matches!(&crossing.to, To::Component { name, .. } if self.graph.belongs(name, owner)) {
            return None;
        }
        let owners = Crossing {
            from: Some(owner),
            to: crossing.to.clone(),
        };
        let decision = self.judge(&owners, self.grant_crossing(&owners), extent);
        (!decision.allowed).then(|| {
            let text = format!("its owner may not do it either: {decision}");
            Reason::new(ReasonKind::Owner, text)
        })
    }

    fn grant(&self, request: &Request, crossing: &Crossing<'_>) -> Result<Reason, Reason> {
        let Request::Publish {
            component,
            host,
            port,
        } = request
        else {
            return self.grant_crossing(crossing);
        };
        let list = self.graph.published_of(component);
        if list
            .iter()
            .any(|one| one.host == *host && one.port == *port)
        {
            let text = format!("port {port} of {component} is published at {host}");
            return Ok(Reason::new(ReasonKind::Granted, text));
        }
        Err(self.not_published(component))
    }

    fn grant_crossing(&self, crossing: &Crossing<'_>) -> Result<Reason, Reason> {
        match (crossing.from, &crossing.to) {
            (Some(from), To::Component { name, port }) => self.grant_flow(from, name, *port),
            (None, To::Component { name, port }) => self.grant_in(name, *port),
            (Some(from), To::Outside(to)) => self.grant_out(from, to),
            (None, To::Outside(_)) => Err(Reason::new(
                ReasonKind::NotGranted,
                "it concerns no component".to_owned(),
            )),
        }
    }

    fn grant_flow(&self, from: &str, to: &str, port: u16) -> Result<Reason, Reason> {
        let flows = self.graph.between(from, to);
        if let Some(flow) = flows.iter().find(|flow| flow.port == port) {
            let text = format!("{from} may reach {to} on {}", on_port(flow));
            return Ok(Reason::new(ReasonKind::Granted, text));
        }
        let wanted = Capability::Flow(Flow::new(from, to, port, ""));
        if let Ok(at) = self.allowed.binary_search_by(|one| one.0.cmp(&wanted)) {
            return Ok(self.by_allow(self.allowed[at].1));
        }
        let text = match flows {
            [] => format!("nothing lets {from} reach {to}: none of its imports is bound to {to}"),
            flows => {
                let ports = some_of(flows.iter().map(on_port));
                format!("{from} may reach {to} only on {ports}")
            }
        };
        Err(Reason::new(ReasonKind::NotGranted, text))
    }

    fn grant_in(&self, name: &str, port: u16) -> Result<Reason, Reason> {
        let list = self.graph.published_of(name);
        match list.iter().find(|one| one.port == port) {
            Some(one) => {
                let text = format!("port {port} of {name} is published at {}", one.host);
                Ok(Reason::new(ReasonKind::Granted, text))
            }
            None => Err(self.not_published(name)),
        }
    }

    fn not_published(&self, name: &str) -> Reason {
        let text = match self.graph.published_of(name) {
            [] => format!("{name} is not published"),
            list => {
                let places = list
                    .iter()
                    .map(|one| format!("{} (port {})", one.host, one.port));
                format!("{name} is published only at {}", some_of(places))
            }
        };
        Reason::new(ReasonKind::NotGranted, text)
    }

    fn grant_out(&self, from: &str, to: &Destination) -> Result<Reason, Reason> {
        let rules = self.graph.outbound_of(from);
        if let Some(rule) = rules.iter().find(|rule| rule.destination.grants(to)) {
            let text = format!("{from} may reach {}", rule.destination);
            return Ok(Reason::new(ReasonKind::Granted, text));
        }
        let allowed = self.allowed.iter().find(|(capability, _)| {
            matches!(capability, Capability::Outbound(one)
                if one.component == from && one.destination.grants(to))
        });
        if let Some((_, rule)) = allowed {
            return Ok(self.by_allow(*rule));
        }
        let text = match rules {
            [] => format!("nothing lets {from} reach outside"),
            rules => {
                let places = rules.iter().map(|rule| match &rule.destination {
                    all if all.covers(to) => format!("{all} without this host's loopback"),
                    one => one.to_string(),
                });
                format!("{from} may reach only {}", some_of(places))
            }
        };
        Err(Reason::new(ReasonKind::NotGranted, text))
    }

    fn by_allow(&self, rule: usize) -> Reason {
        let rule = &self.rules.allow[rule];
        let text = format!("the rule `allow {rule}` permits it");
        Reason::by(ReasonKind::Allowed, rule, text)
    }

    fn decide_control(&self, component: &str, operation: Operation, target: &str) -> Decision {
        let granted = match self.control(component) {
            Ok(reason) => reason,
            Err(against) => return Decision::refused(against),
        };
        // It may make components of its own; everything else it may do to these, not to itself.
        let own = self.graph.belongs(target, component)
            && (operation == Operation::Create || target != component);
        if own {
            return Decision::allowed(granted);
        }
        let text = format!("{component} may not {operation} {target}, which is not one of its own");
        Decision::refused(vec![Reason::new(ReasonKind::NotGranted, text)])
    }

    /// Whether the component controls others at all.
    fn control(&self, component: &str) -> Result<Reason, Vec<Reason>> {
        let controls = self.graph.find(component).is_some_and(|c| c.controls);
        let asserted = self.rules.assert.iter();
        let asserted = asserted.filter(|one| one.forbids_control(component));
        let mut against: Vec<Reason> = asserted
            .map(|assertion| {
                let text = format!("`{assertion}` would not hold");
                Reason::by(ReasonKind::Asserted, assertion, text)
            })
            .collect();
        if !controls {
            let text = format!("{component} was not granted control of components");
            against.insert(0, Reason::new(ReasonKind::NotGranted, text));
        }
        if against.is_empty() {
            let text = format!("{component} controls its own components");
            return Ok(Reason::new(ReasonKind::Granted, text));
        }
        Err(against)
    }

    fn has(&self, capability: &Capability) -> bool {
        let listed = match capability {
            Capability::Flow(flow) => {
                let flows = self.graph.between(&flow.from, &flow.to);
                let allowed = Flow::new(&flow.from, &flow.to, flow.port, "");
                flows.iter().any(|one| one.port == flow.port)
                    || self.is_allowed(&Capability::Flow(allowed))
            }
            Capability::Published(one) => self.graph.published_of(&one.component).contains(one),
            Capability::Outbound(one) => self.graph.outbound_of(&one.component).contains(one),
            Capability::Control(name) => self
                .graph
                .find(name)
                .is_some_and(|one: &Component| one.controls),
        };
        listed || self.is_allowed(capability)
    }

    fn is_allowed(&self, capability: &Capability) -> bool {
        let found = self.allowed.binary_search_by(|one| one.0.cmp(capability));
        found.is_ok()
    }

    fn outbound_capabilities(&self, component: &str) -> Vec<Capability> {
        let granted = self.graph.outbound_of(component).iter().cloned();
        let allowed = self.allowed.iter().map(|(capability, _)| capability);
        let allowed = allowed
            .filter(|one| matches!(one, Capability::Outbound(one) if one.component == component));
        granted
            .map(Capability::Outbound)
            .chain(allowed.cloned())
            .collect()
    }
}

fn on_port(flow: &Flow) -> String {
    match flow.import.as_str() {
        "" => format!("port {}", flow.port),
        import => format!("port {} (import {})", flow.port, import.escape_debug()),
    }
}

/// A few of them, and how many more there are.
fn some_of(all: impl ExactSizeIterator<Item = String>) -> String {
    let more = all.len().saturating_sub(ALTERNATIVES_MAX);
    let mut some: Vec<String> = all.take(ALTERNATIVES_MAX).collect();
    if more > 0 {
        some.push(format!("{more} more"));
    }
    listed(&some)
}
