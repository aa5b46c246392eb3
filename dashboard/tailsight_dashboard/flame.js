// A flame graph: outermost functions on top, as wide as their time. Zoom, search, keyboard. Nothing that others named is
// ever markup: texts go in as text. `data` is what charts_profiles.py makes.

const ROW = 22, LABEL_PX = 28, LEAST_PX = 0.6, WIDE_PX = 4, FOLD_BEYOND = 4, TIP_PX = 14;
const STATES = ["running", "gil", "waiting", "unknown"];
const MEANINGS = ["running", "waiting for the GIL", "waiting for something else", "state not known"];
const kept = new Map(); // by the component's key: what a new run of the page must not lose

export default function (component) {
  const { data, parentElement, key, setStateValue } = component;
  const frame = parentElement.querySelector(".flame");
  if (!frame || !data) return undefined;
  const memory = kept.get(key) || { of: null, path: [], unfolded: false, search: "", given: "", told: [] };
  kept.set(key, memory);
  if (memory.of !== data.of) Object.assign(memory, { of: data.of, path: [], unfolded: false });
  if (data.search !== memory.given) { // what comes back of what was told is not news: more may have been typed since
    const told = memory.told.indexOf(data.search);
    memory.given = data.search;
    if (told < 0) memory.search = data.search;
    memory.told.splice(0, told + 1);
  }
  const part = name => frame.querySelector("." + name);
  const graph = part("graph"), input = part("search"), tip = part("tip");
  const differs = data.kind === "difference";
  const nodes = planted(data, differs);
  let zoomed = found(nodes[0], memory.path), current = null;
  if (input.value !== memory.search) input.value = memory.search;
  legend();

  function tell(search) {
    memory.told.push(search);
    setStateValue("search", search);
  }

  function legend() {
    const marks = differs
      ? [["more", `more time in ${data.names_of[0]}`], ["less", `more time in ${data.names_of[1]}`], ["even", "as much in both"]]
      : STATES.map((state, at) => [state, `${MEANINGS[at]} ${share(nodes[0].states[at] / (nodes[0].samples || 1))}`])
          .filter((_, at) => at < 3 || nodes[0].states[at]);
    part("legend").replaceChildren(...marks.map(([paint, meaning]) => {
      const item = document.createElement("span"), mark = document.createElement("i");
      mark.className = `mark ${paint}`;
      item.append(mark, meaning);
      return item;
    }));
    if (differs) part("legend").append("bold: differs for certain");
  }

  function draw(focused) {
    const across = graph.clientWidth, wanted = memory.search.trim().toLowerCase();
    const hits = looked(wanted);
    graph.replaceChildren();
    graph.classList.toggle("searching", wanted !== "");
    current = null;
    const above = [];
    for (let at = zoomed.parent; at; at = at.parent) above.unshift(at);
    let deepest = chain(above, 0, 0, 1);
    const waiting = [[zoomed, deepest, 0, 1]];
    while (waiting.length) {
      const [node, row, left, width] = waiting.pop();
      const way = [node]; // functions that call one other, and run nothing themselves
      let last = node;
      while (last.below.length === 1 && last.size - last.below[0].size <= 1e-9 * last.size) way.push(last = last.below[0]);
      const under = chain(way, row, left, width);
      deepest = Math.max(deepest, under);
      let from = left;
      for (const child of last.below) {
        const part = last.size ? width * child.size / last.size : 0;
        if (part * across >= LEAST_PX) waiting.push([child, under, from, part]);
        from += part;
      }
    }
    graph.style.height = deepest * ROW + 2 + "px";
    part("matches").textContent = hits;
    part("whole").disabled = zoomed === nodes[0] && wanted === "";
    if (!current && graph.firstChild) graph.firstChild.tabIndex = 0;
    if (focused && current) current.focus();

    function box(node, row, left, width, faint) {
      const button = document.createElement("button"), name = document.createElement("span");
      button.type = "button";
      button.tabIndex = -1;
      button.setAttribute("role", "treeitem");
      button.setAttribute("aria-level", node.level);
      button.setAttribute("aria-label", node.where ? `${node.name}, ${node.where}` : node.name);
      button.className = ["node", faint ? "faint" : "", node.hit ? "found" : "", node.certain ? "certain" : "", width * across >= WIDE_PX ? "wide" : ""]
        .filter(Boolean).join(" ");
      button.style.cssText = `left:${left * 100}%;width:${width * 100}%;top:${row * ROW}px`;
      if (differs) tint(button, node);
      else segments(button, node);
      if (width * across >= LABEL_PX) name.textContent = differs && node.parent ? `${node.name} ${signed(node.a - node.b)}` : node.name;
      button.append(name);
      button.node = node;
      graph.append(button);
      if (node === (focused || zoomed)) {
        button.tabIndex = 0;
        current = button;
      }
    }

    function chain(way, row, left, width) {
      const between = way.slice(1, -1), folds = !memory.unfolded && way.length > FOLD_BEYOND && !between.some(node => node.hit);
      if (!folds) way.forEach(node => box(node, row++, left, width, node.level < zoomed.level));
      else {
        box(way[0], row++, left, width, way[0].level < zoomed.level);
        fold(between, row++, left, width);
        box(way[way.length - 1], row++, left, width, way[way.length - 1].level < zoomed.level);
      }
      return row;
    }

    function fold(between, row, left, width) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "node fold";
      button.style.cssText = `left:${left * 100}%;width:${width * 100}%;top:${row * ROW}px`;
      button.title = `${between[0].name} to ${between[between.length - 1].name}: show`;
      button.textContent = `⋯ ${between.length} functions, ${button.title}`;
      button.unfolds = true;
      graph.append(button);
    }
  }

  function looked(wanted) {
    if (!wanted) {
      for (const node of nodes) node.hit = false;
      return "";
    }
    let places = 0, sum = 0, a = 0, b = 0;
    for (const node of nodes) { // parents come before what is below them
      node.hit = node.parent !== null && `${node.name} ${node.where}`.toLowerCase().includes(wanted);
      node.inside = node.parent !== null && (node.parent.inside || node.parent.hit);
      if (!node.hit) continue;
      places += 1;
      if (!node.inside) [sum, a, b] = [sum + node.size, a + node.a, b + node.b];
    }
    if (!places) return "nothing found";
    const where = places === 1 ? "in 1 place" : `in ${places.toLocaleString("en")} places`;
    if (differs) return `${where}: ${duration(a)} per request of ${data.names_of[0]}, ${duration(b)} of ${data.names_of[1]}`;
    return `${where}: ${share(sum / (nodes[0].size || 1))} of the time`;
  }

  function lines(node) {
    const said = [node.name];
    if (node.where) said.push(node.where);
    if (differs) {
      said.push(`${data.names_of[0]}: ${duration(node.a)} per request (${node.counts[0].toLocaleString("en")} samples)`);
      said.push(`${data.names_of[1]}: ${duration(node.b)} per request (${node.counts[1].toLocaleString("en")} samples)`);
      if (node.entry) said.push(`on all paths ${node.entry}`);
      return said;
    }
    const whole = nodes[0].size || 1;
    const [, gil, waiting, unknown] = node.states.map(samples => share(samples / (node.samples || 1)));
    said.push(`${node.samples.toLocaleString("en")} samples, ${duration(node.size)}, ${share(node.size / whole)} of all`);
    said.push(`itself ${node.own.toLocaleString("en")} samples, ${share(node.ownMs / whole)}`);
    said.push(`waiting for the GIL ${gil}, for something else ${waiting}${node.states[3] ? `, not known ${unknown}` : ""}`);
    return said;
  }

  function show(node) {
    const [name, ...rest] = lines(node), strong = document.createElement("strong");
    strong.textContent = name;
    part("about").replaceChildren(strong, rest.length ? ` · ${rest.join(" · ")}` : "");
  }

  function point(event, node) {
    const said = lines(node);
    tip.replaceChildren(...said.map((text, at) => {
      const line = document.createElement(at ? "div" : "strong");
      line.textContent = text;
      return line;
    }));
    tip.hidden = false;
    const around = frame.getBoundingClientRect(), size = tip.getBoundingClientRect();
    const left = Math.min(event.clientX - around.left + TIP_PX, around.width - size.width);
    const under = event.clientY + TIP_PX + size.height <= window.innerHeight;
    tip.style.left = `${Math.max(0, left)}px`;
    tip.style.top = `${event.clientY - around.top + (under ? TIP_PX : -TIP_PX - size.height)}px`;
  }

  function zoom(node, focused) {
    zoomed = node;
    memory.path = [];
    for (let at = node; at.parent; at = at.parent) memory.path.unshift(at.id);
    memory.unfolded = false;
    draw(focused ? node : null);
    show(node);
  }

  function search() {
    memory.search = input.value;
    draw();
  }

  graph.onclick = event => {
    const to = event.target.closest(".node");
    if (!to) return;
    tip.hidden = true;
    if (to.unfolds) {
      memory.unfolded = true;
      draw();
    } else zoom(to.node, true);
  };
  graph.onpointermove = event => {
    const to = event.pointerType === "mouse" && event.target.closest(".node");
    if (to && to.node) point(event, to.node);
    else tip.hidden = true;
  };
  graph.onpointerleave = () => { tip.hidden = true; };
  if (!graph.focused) graph.addEventListener("focusin", event => graph.focused(event)); // there is no property for it
  graph.focused = event => {
    const to = event.target.closest(".node");
    if (!to || !to.node) return;
    if (current) current.tabIndex = -1;
    current = to;
    current.tabIndex = 0;
    show(to.node);
  };
  graph.onkeydown = event => {
    if (event.key === "Escape") zoom(nodes[0], true);
    if (!event.key.startsWith("Arrow") || !current) return;
    event.preventDefault();
    const at = current.node, beside = at.parent ? at.parent.below : [at], place = beside.indexOf(at);
    const next = { ArrowDown: at.below[0], ArrowUp: at.parent, ArrowRight: beside[place + 1], ArrowLeft: beside[place - 1] };
    const button = [...graph.children].find(each => each.node && each.node === next[event.key]);
    if (button) button.focus();
  };
  input.oninput = search;
  input.onchange = () => tell(input.value);
  input.onkeydown = event => {
    event.stopPropagation(); // the page's own shortcuts are letters
    if (event.key === "Escape") {
      input.value = "";
      search();
      tell("");
    }
  };
  part("whole").onclick = () => {
    if (input.value) {
      input.value = memory.search = "";
      tell("");
    }
    zoom(nodes[0]);
  };
  let seen = graph.clientWidth;
  const watch = new ResizeObserver(() => {
    if (graph.clientWidth === seen) return;
    seen = graph.clientWidth;
    draw();
  });
  watch.observe(graph);
  draw();
  show(zoomed);
  return () => watch.disconnect();
}

function planted(data, differs) {
  const nodes = data.parent.map((parent, at) => {
    const [name, file] = data.names[data.name[at]];
    return {
      name, id: `${name}\n${file}`, where: file && data.line[at] ? `${file}:${data.line[at]}` : file, parent: null, below: [], level: 1,
      size: 0, samples: 0, own: 0, ownMs: 0, states: [0, 0, 0, 0], a: 0, b: 0, counts: [0, 0], hit: false, inside: false, entry: "", certain: false,
    };
  });
  nodes.forEach((node, at) => {
    if (at > 0) {
      node.parent = nodes[data.parent[at]];
      node.level = node.parent.level + 1;
      node.parent.below.push(node);
    }
    if (differs) {
      node.counts = data.samples[at];
      [node.a, node.b] = data.ms[at];
      node.size = node.a + node.b;
      const said = data.entries[data.name[at]];
      if (said) [node.entry, node.certain] = [said[0], said[1]];
    } else {
      STATES.forEach((state, place) => { node.states[place] = data[state][at]; });
      node.samples = node.states.reduce((sum, count) => sum + count, 0);
      [node.own, node.ownMs, node.size] = [data.own[at], data.own_ms[at], data.ms[at]];
    }
  });
  return nodes;
}

function found(root, path) {
  let at = root;
  for (const id of path) {
    const next = at.below.find(each => each.id === id);
    if (!next) break;
    at = next;
  }
  return at;
}

function segments(button, node) {
  let from = 0;
  STATES.forEach((state, place) => {
    const part = node.samples ? node.states[place] / node.samples : 0;
    if (!part) return;
    const segment = document.createElement("i");
    segment.className = state;
    segment.style.cssText = `left:${from * 100}%;width:${part * 100}%`;
    button.append(segment);
    from += part;
  });
}

function tint(button, node) {
  let root = node;
  while (root.parent) root = root.parent;
  const by = (node.a - node.b) / Math.max(node.size, root.size * 0.02, 1e-9);
  const part = document.createElement("i");
  part.className = Math.abs(by) < 0.02 ? "even" : by > 0 ? "more" : "less";
  part.style.cssText = `left:0;width:100%;--part:${Math.round(100 * Math.min(1, Math.abs(by)))}%`;
  button.append(part);
}

// as format.py writes them
function milliseconds(value) {
  const size = Math.abs(value), digits = size >= 99.95 ? 0 : size >= 9.995 ? 1 : size >= 0.9995 ? 2 : 3;
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }).replace("-", "−");
}
function duration(value) {
  const size = Math.abs(value);
  if (size < 0.0005) return "0 ms";
  if (size < 0.0995) return `${Math.round(value * 1000)} µs`.replace("-", "−");
  return size < 9995 ? `${milliseconds(value)} ms` : `${milliseconds(value / 1000)} s`;
}
function signed(value) {
  const text = duration(value);
  return value > 0 && text !== "0 ms" ? `+${text}` : text;
}
function share(value) {
  const percent = value * 100;
  if (percent === 0) return "0 %";
  if (percent < 0.1) return "<0.1 %";
  return `${percent < 9.95 ? percent.toFixed(1).replace(/\.0$/, "") : percent.toFixed(0)} %`;
}
