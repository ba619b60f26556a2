/** Elements of the page. */
export const find = <E extends HTMLElement>(id: string): E => document.getElementById(id) as E;

export const element = (name: string, content: string, more: Partial<HTMLElement> = {}): HTMLElement =>
  Object.assign(document.createElement(name), { textContent: content }, more);
