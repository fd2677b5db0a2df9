use super::*;

fn extent(width: f64, height: f64) -> Extent {
    Extent { width, height }
}

fn link(from: usize, to: usize) -> Link {
    Link {
        from,
        to,
        label: extent(40.0, 19.0),
        is_weak: false,
    }
}

fn columns(links: &[Link]) -> Vec<f64> {
    let boxes = vec![extent(100.0, 40.0); 4];
    let layout = layout(&boxes, links);
    layout.boxes.iter().map(|rect| rect.x).collect()
}

#[test]
fn arrows_go_to_the_right() {
    let x = columns(&[link(0, 1), link(1, 2), link(0, 2), link(3, 2)]);
    assert!(x[0] < x[1] && x[1] < x[2]);
    // What nothing links to stands right before what it links to.
    assert!((x[3] - x[1]).abs() < 0.1);
}

#[test]
fn a_circle_has_one_arrow_back() {
    let boxes = vec![extent(100.0, 40.0); 3];
    let layout = layout(&boxes, &[link(0, 1), link(1, 2), link(2, 0)]);
    assert_eq!(layout.ways.iter().filter(|way| way.is_turned).count(), 1);
    for way in &layout.ways {
        assert!(way.points.windows(2).all(|pair| pair[0].x <= pair[1].x));
    }
}

#[test]
fn weak_links_turn_first() {
    let boxes = vec![extent(100.0, 40.0); 2];
    let weak = Link {
        is_weak: true,
        ..link(1, 0)
    };
    let layout = layout(&boxes, &[weak, link(0, 1)]);
    assert!(layout.ways[0].is_turned && !layout.ways[1].is_turned);
}

#[test]
fn ends_of_arrows_have_room() {
    let boxes = vec![extent(100.0, 40.0); 12];
    let links: Vec<Link> = (1..12).map(|to| link(0, to)).collect();
    let layout = layout(&boxes, &links);
    let mut starts: Vec<f64> = layout.ways.iter().map(|way| way.points[0].y).collect();
    starts.sort_by(f64::total_cmp);
    assert!(starts.windows(2).all(|pair| pair[1] - pair[0] > 12.0));
}
