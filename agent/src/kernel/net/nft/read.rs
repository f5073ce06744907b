//! Reading nftables back from the kernel: what is really there, not what we remember asking for.

use super::{Family, dump, header};
use crate::kernel::net::NetError;
use crate::kernel::net::attr;
use crate::kernel::net::netlink::Netlink;

const GETTABLE: u16 = 1;
const GETCHAIN: u16 = 4;
const GETRULE: u16 = 7;
/// `struct nfgenmsg`.
const NFGENMSG_BYTES: usize = 4;

/// A table as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableSeen {
    /// Its name.
    pub(crate) name: String,
    /// The netlink port that owns it, if it is owned.
    pub(crate) owner: Option<u32>,
}

/// A chain as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChainSeen {
    /// Its name.
    pub(crate) name: String,
    /// Hook number and priority of a base chain.
    pub(crate) hook: Option<(u32, i32)>,
    /// The links a netdev base chain is hooked to.
    pub(crate) devices: Vec<String>,
}

/// A rule as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RuleSeen {
    /// Its chain.
    pub(crate) chain: String,
    /// The names of its expressions, in order.
    pub(crate) expressions: Vec<String>,
    /// Packets and bytes of its first counter.
    pub(crate) counter: Option<(u64, u64)>,
}

/// All tables of a family.
///
/// # Errors
/// When the kernel refuses the list.
pub(crate) fn tables(reader: &mut Netlink, family: Family) -> Result<Vec<TableSeen>, NetError> {
    let found = dump(reader, "the nftables tables", GETTABLE, &header(family))?;
    let parse = |body: &[u8]| {
        let attributes = of_family(body, family)?;
        let name = attr::find(attributes, 1).map(attr::text)?;
        let owner = attr::find(attributes, 7).and_then(attr::u32_be);
        Some(TableSeen { name, owner })
    };
    Ok(found.iter().filter_map(|(_, body)| parse(body)).collect())
}

pub(super) fn chains(
    reader: &mut Netlink,
    family: Family,
    table: &str,
) -> Result<Vec<ChainSeen>, NetError> {
    let found = dump(reader, "the nftables chains", GETCHAIN, &header(family))?;
    Ok(found
        .iter()
        .filter_map(|(_, body)| chain(of_family(body, family)?, table))
        .collect())
}

fn chain(attributes: &[u8], table: &str) -> Option<ChainSeen> {
    if attr::find(attributes, 1).map(attr::text)? != table {
        return None;
    }
    let hook = attr::find(attributes, 4);
    let number = |kind| {
        hook.and_then(|h| attr::find(h, kind))
            .and_then(attr::u32_be)
    };
    let single = hook.and_then(|h| attr::find(h, 3)).map(attr::text);
    let many = hook.and_then(|h| attr::find(h, 4)).unwrap_or_default();
    let mut devices: Vec<String> = attr::attributes(many)
        .map(|(_, name)| attr::text(name))
        .collect();
    devices.extend(
        single
            .filter(|name| !devices.contains(name))
            .into_iter()
            .collect::<Vec<_>>(),
    );
    Some(ChainSeen {
        name: attr::find(attributes, 3).map(attr::text)?,
        hook: number(1).zip(number(2)).map(|(n, p)| (n, p as i32)),
        devices,
    })
}

pub(super) fn rules(
    reader: &mut Netlink,
    family: Family,
    table: &str,
    chain: &str,
) -> Result<Vec<RuleSeen>, NetError> {
    let mut body = header(family);
    body.put_str(1, table).put_str(2, chain);
    let found = dump(reader, "the nftables rules", GETRULE, &body)?;
    Ok(found
        .iter()
        .filter_map(|(_, body)| rule(of_family(body, family)?, table))
        // Older kernels list the whole table.
        .filter(|r| r.chain == chain)
        .collect())
}

fn rule(attributes: &[u8], table: &str) -> Option<RuleSeen> {
    if attr::find(attributes, 1).map(attr::text)? != table {
        return None;
    }
    let list = attr::find(attributes, 4).unwrap_or_default();
    let named = |elem| attr::find(elem, 1).map(attr::text);
    let counter = attr::attributes(list).find(|(_, e)| named(e).as_deref() == Some("counter"));
    let numbers = counter.and_then(|(_, elem)| {
        let data = attr::find(elem, 2)?;
        let number = |kind| attr::find(data, kind).and_then(attr::u64_be);
        number(2).zip(number(1))
    });
    Some(RuleSeen {
        chain: attr::find(attributes, 2).map(attr::text)?,
        expressions: attr::attributes(list)
            .filter_map(|(_, elem)| named(elem))
            .collect(),
        counter: numbers,
    })
}

/// The attributes of an answer, where it is of that family.
fn of_family(body: &[u8], family: Family) -> Option<&[u8]> {
    if *body.first()? != family as u8 {
        None
    } else {
        body.get(NFGENMSG_BYTES..)
    }
}
