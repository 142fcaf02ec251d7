/** Temml's core without its chemistry package, which is a third of the whole. */
declare module "temml/temml.js" {
  import temml from "temml";
  export default temml;
}
